-- What pages ask: accounts by themselves and by their OU, and what holds by its status.

CREATE INDEX account_by_ou ON account (organization_key, ou_path);
CREATE INDEX coverage_by_status ON coverage (status, valid_from, account_key, region) WHERE valid_to IS NULL;

-- Every account that is a member, and what became of its newest visit.
CREATE VIEW current_accounts AS
SELECT
    organization.organization_id, -- AWS's id of the organization, or account:<id> for a standalone account
    organization.name AS organization_name, -- the configuration's name of the organization
    account.account_id, -- the account, twelve digits
    account.name AS account_name, -- its name in the organization
    account.state AS account_state, -- PENDING_ACTIVATION, ACTIVE, SUSPENDED, PENDING_CLOSURE or CLOSED
    account.ou_path, -- o-…/r-…/ou-…; null where it is not known
    account_owner.owner AS account_owner, -- who answers for the account, by its tag or the configuration's list
    account_owner.team, -- and in which team, likewise
    account.checked_at, -- when it was last looked at
    account.scan_id, -- the scan of its newest visit
    visit.outcome, -- what became of that: audited, unreachable, not_active, excluded or pending
    visit.error_kind, -- why it was unreachable, or what most of the regions that could not be read had in common
    visit.error_message -- what AWS said, for a person
FROM account
JOIN organization USING (organization_key)
LEFT JOIN account_owner ON account_owner.account_key = account.account_key
LEFT JOIN visit ON visit.account_key = account.account_key AND visit.scan_id = account.scan_id
WHERE account.left_at IS NULL;
