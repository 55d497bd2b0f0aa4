-- Who answers for accounts.

-- Who answers for an account, where that is known.
CREATE TABLE account_owner (
    account_key INTEGER PRIMARY KEY REFERENCES account, -- the account
    owner       TEXT, -- who
    team        TEXT -- in which team
) STRICT;

DROP VIEW current_coverage;

-- Exactly one row for each account × region known: what holds now.
CREATE VIEW current_coverage AS
SELECT
    organization.organization_id, -- AWS's id of the organization, or account:<id> for a standalone account
    organization.name AS organization_name, -- the configuration's name of the organization
    account.account_id, -- the account, twelve digits
    account.name AS account_name, -- its name in the organization
    account.state AS account_state, -- PENDING_ACTIVATION, ACTIVE, SUSPENDED, PENDING_CLOSURE or CLOSED
    account.ou_path, -- o-…/r-…/ou-…; null where it is not known
    coverage.region, -- the region
    coverage.status, -- covered, not_covered, not_applicable or unknown
    coverage.reason, -- why: one of the reasons of that status
    coverage.analyzer_arn, -- the analyzer that covers, or the one that should but is not active
    coverage.valid_from AS since, -- when this status and reason began
    account.checked_at, -- when the account was last looked at
    CASE coverage.status WHEN 'unknown' THEN coverage.last_known_status ELSE coverage.status END AS last_known_status, -- the last answer that was not unknown
    CASE coverage.status WHEN 'unknown' THEN coverage.last_known_at ELSE account.checked_at END AS last_known_at, -- when that answer was last seen to hold
    account.scan_id, -- the scan of the account's newest visit
    coalesce(exemption.expires_at > strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'), 0) AS exempt, -- whether the configuration exempts it: the verdict stays what it is
    exemption.reason AS exemption_reason, -- why, in the words of the configuration
    exemption.expires_at AS exemption_expires_at, -- when the exemption ends
    account_owner.owner AS account_owner, -- who answers for the account, by its tag or the configuration's list
    account_owner.team -- and in which team, likewise
FROM coverage
JOIN account USING (account_key)
JOIN organization USING (organization_key)
LEFT JOIN exempted ON exempted.account_key = coverage.account_key AND exempted.region = coverage.region AND exempted.valid_to IS NULL
LEFT JOIN exemption USING (exemption_key)
LEFT JOIN account_owner ON account_owner.account_key = coverage.account_key
WHERE coverage.valid_to IS NULL;
