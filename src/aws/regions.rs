//! Account Management: which regions an account has.

use aws_sdk_account::types::RegionOptStatus;

use super::client::send;
use super::{Aws, AwsError, Operation, Page, Session, token};
use crate::model::Region;

/// Whether an account can use a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptStatus {
    /// `ENABLED`, `ENABLED_BY_DEFAULT`, or a status that we do not know: looked at, and believed.
    Enabled,
    /// `ENABLING` or `DISABLING`: looked at, but a refusal of the credentials there means "not opted in".
    Changing,
    /// `DISABLED`.
    Disabled,
}

/// A region of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionListing {
    /// The region.
    pub region: Region,
    /// Whether the account can use it.
    pub opt_status: OptStatus,
}

impl Aws {
    /// One page of `account:ListRegions`, asked of the account itself.
    ///
    /// # Errors
    /// As every call: see [`AwsError`].
    pub async fn list_regions(
        &self,
        session: &Session,
        next_token: Option<String>,
    ) -> Result<Page<RegionListing>, AwsError> {
        const OPERATION: Operation = Operation::ListRegions;
        let call = self.account.list_regions().max_results(50).set_next_token(next_token);
        let output = send!(call, aws_sdk_account, session).map_err(|error| AwsError::classify(OPERATION, &error))?;
        let regions =
            output.regions.ok_or_else(|| AwsError::malformed(OPERATION, "the answer has no list `Regions`"))?;
        let items = regions
            .into_iter()
            .map(|region| {
                let name = region.region_name.filter(|name| !name.is_empty());
                let name = name.ok_or_else(|| AwsError::malformed(OPERATION, "a region has no name"))?;
                let status = region.region_opt_status;
                let status =
                    status.ok_or_else(|| AwsError::malformed(OPERATION, format!("{name} has no opt-in status")))?;
                let opt_status = match status {
                    RegionOptStatus::Disabled => OptStatus::Disabled,
                    RegionOptStatus::Disabling | RegionOptStatus::Enabling => OptStatus::Changing,
                    _ => OptStatus::Enabled,
                };
                Ok(RegionListing { region: Region::new(&name), opt_status })
            })
            .collect::<Result<_, AwsError>>()?;
        Ok(Page { items, next_token: token(output.next_token) })
    }
}
