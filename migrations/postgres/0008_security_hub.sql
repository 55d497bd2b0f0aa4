-- What was imported into AWS Security Hub.

CREATE TABLE hub_finding (
    organization_key INTEGER NOT NULL REFERENCES organization,
    account_id       TEXT NOT NULL CHECK (length(account_id) = 12),
    region           TEXT NOT NULL,
    digest           TEXT NOT NULL,
    imported_at      TIMESTAMPTZ NOT NULL,
    is_archived      INTEGER NOT NULL CHECK (is_archived IN (0, 1)),
    finding          JSONB NOT NULL,
    PRIMARY KEY (organization_key, account_id, region)
);

CREATE VIEW security_hub_imports AS
SELECT
    organization.organization_id,
    organization.name AS organization_name,
    hub_finding.account_id,
    hub_finding.region,
    hub_finding.imported_at,
    hub_finding.is_archived = 1 AS archived,
    hub_finding.finding
FROM hub_finding
JOIN organization USING (organization_key);

COMMENT ON TABLE hub_finding IS 'A finding that was imported into AWS Security Hub: one for each account × region.';
COMMENT ON COLUMN hub_finding.organization_key IS 'the organization';
COMMENT ON COLUMN hub_finding.account_id IS 'the account';
COMMENT ON COLUMN hub_finding.region IS 'the region';
COMMENT ON COLUMN hub_finding.digest IS 'a hash of what was said';
COMMENT ON COLUMN hub_finding.imported_at IS 'when it was last said';
COMMENT ON COLUMN hub_finding.is_archived IS 'whether what it said holds no more';
COMMENT ON COLUMN hub_finding.finding IS 'what was said, to be archived when it holds no more';
COMMENT ON VIEW security_hub_imports IS 'What AWS Security Hub was last told of each account × region (`trustwatch export --to security-hub`).';
COMMENT ON COLUMN security_hub_imports.organization_id IS 'AWS''s id of the organization, or account:<id> for a standalone account';
COMMENT ON COLUMN security_hub_imports.organization_name IS 'the configuration''s name of the organization';
COMMENT ON COLUMN security_hub_imports.account_id IS 'the account';
COMMENT ON COLUMN security_hub_imports.region IS 'the region';
COMMENT ON COLUMN security_hub_imports.imported_at IS 'when it was last told';
COMMENT ON COLUMN security_hub_imports.archived IS 'whether the finding was archived, because it holds no more';
COMMENT ON COLUMN security_hub_imports.finding IS 'what it was told: a finding in its own format';
