-- What pages ask: accounts by themselves and by their OU, and what holds by its status.

CREATE INDEX account_by_ou ON account (organization_key, ou_path);
CREATE INDEX coverage_by_status ON coverage (status, valid_from, account_key, region) WHERE valid_to IS NULL;

CREATE VIEW current_accounts AS
SELECT
    organization.organization_id,
    organization.name AS organization_name,
    account.account_id,
    account.name AS account_name,
    account.state AS account_state,
    account.ou_path,
    account_owner.owner AS account_owner,
    account_owner.team,
    account.checked_at,
    account.scan_id,
    visit.outcome,
    visit.error_kind,
    visit.error_message
FROM account
JOIN organization USING (organization_key)
LEFT JOIN account_owner ON account_owner.account_key = account.account_key
LEFT JOIN visit ON visit.account_key = account.account_key AND visit.scan_id = account.scan_id
WHERE account.left_at IS NULL;

COMMENT ON VIEW current_accounts IS 'Every account that is a member, and what became of its newest visit.';
COMMENT ON COLUMN current_accounts.organization_id IS 'AWS''s id of the organization, or account:<id> for a standalone account';
COMMENT ON COLUMN current_accounts.organization_name IS 'the configuration''s name of the organization';
COMMENT ON COLUMN current_accounts.account_id IS 'the account, twelve digits';
COMMENT ON COLUMN current_accounts.account_name IS 'its name in the organization';
COMMENT ON COLUMN current_accounts.account_state IS 'PENDING_ACTIVATION, ACTIVE, SUSPENDED, PENDING_CLOSURE or CLOSED';
COMMENT ON COLUMN current_accounts.ou_path IS 'o-…/r-…/ou-…; null where it is not known';
COMMENT ON COLUMN current_accounts.account_owner IS 'who answers for the account, by its tag or the configuration''s list';
COMMENT ON COLUMN current_accounts.team IS 'and in which team, likewise';
COMMENT ON COLUMN current_accounts.checked_at IS 'when it was last looked at';
COMMENT ON COLUMN current_accounts.scan_id IS 'the scan of its newest visit';
COMMENT ON COLUMN current_accounts.outcome IS 'what became of that: audited, unreachable, not_active, excluded or pending';
COMMENT ON COLUMN current_accounts.error_kind IS 'why it was unreachable, or what most of the regions that could not be read had in common';
COMMENT ON COLUMN current_accounts.error_message IS 'what AWS said, for a person';
