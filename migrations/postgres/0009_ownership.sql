-- Who answers for accounts.

CREATE TABLE account_owner (
    account_key INTEGER PRIMARY KEY REFERENCES account,
    owner       TEXT,
    team        TEXT
);

CREATE OR REPLACE VIEW current_coverage AS
SELECT
    organization.organization_id,
    organization.name AS organization_name,
    account.account_id,
    account.name AS account_name,
    account.state AS account_state,
    account.ou_path,
    coverage.region,
    coverage.status,
    coverage.reason,
    coverage.analyzer_arn,
    coverage.valid_from AS since,
    account.checked_at,
    CASE coverage.status WHEN 'unknown' THEN coverage.last_known_status ELSE coverage.status END AS last_known_status,
    CASE coverage.status WHEN 'unknown' THEN coverage.last_known_at ELSE account.checked_at END AS last_known_at,
    account.scan_id,
    coalesce(exemption.expires_at > now(), false) AS exempt,
    exemption.reason AS exemption_reason,
    exemption.expires_at AS exemption_expires_at,
    account_owner.owner AS account_owner,
    account_owner.team
FROM coverage
JOIN account USING (account_key)
JOIN organization USING (organization_key)
LEFT JOIN exempted ON exempted.account_key = coverage.account_key AND exempted.region = coverage.region AND exempted.valid_to IS NULL
LEFT JOIN exemption USING (exemption_key)
LEFT JOIN account_owner ON account_owner.account_key = coverage.account_key
WHERE coverage.valid_to IS NULL;

COMMENT ON TABLE account_owner IS 'Who answers for an account, where that is known.';
COMMENT ON COLUMN account_owner.account_key IS 'the account';
COMMENT ON COLUMN account_owner.owner IS 'who';
COMMENT ON COLUMN account_owner.team IS 'in which team';
COMMENT ON COLUMN current_coverage.account_owner IS 'who answers for the account, by its tag or the configuration''s list';
COMMENT ON COLUMN current_coverage.team IS 'and in which team, likewise';
