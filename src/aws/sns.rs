//! Amazon SNS: messages to people.

use aws_smithy_types::error::display::DisplayErrorContext;

use super::{Aws, ConnectError, ConnectSettings};

/// A caller that publishes.
#[derive(Debug)]
pub struct Publisher(aws_sdk_sns::Client);

/// What keeps a message of a topic that keeps the order from coming twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    /// Messages of one group keep their order.
    pub group: String,
    /// The same however often a message is sent.
    pub id: String,
}

impl Publisher {
    /// Finds the caller's credentials. No call is made.
    ///
    /// # Errors
    /// As [`Aws::connect`].
    pub async fn connect(settings: &ConnectSettings, region: &str) -> Result<Self, ConnectError> {
        let config = aws_sdk_sns::config::Builder::from(Aws::connect(settings).await?.config())
            .region(aws_config::Region::new(region.to_owned()));
        Ok(Self(aws_sdk_sns::Client::from_conf(config.build())))
    }

    /// `sns:Publish`: a message with a text for each protocol, as JSON.
    ///
    /// # Errors
    /// What AWS said, or what kept it from saying anything.
    pub async fn publish(
        &self,
        topic_arn: &str,
        subject: &str,
        message: &str,
        once: Option<Once>,
    ) -> Result<(), String> {
        let (group, id) = once.map(|once| (once.group, once.id)).unzip();
        self.0
            .publish()
            .topic_arn(topic_arn)
            .subject(subject)
            .message(message)
            .message_structure("json")
            .set_message_group_id(group)
            .set_message_deduplication_id(id)
            .send()
            .await
            .map(|_| ())
            .map_err(|error| DisplayErrorContext(&error).to_string())
    }
}
