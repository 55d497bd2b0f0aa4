-- What was imported into AWS Security Hub.

-- A finding that was imported into AWS Security Hub: one for each account × region.
CREATE TABLE hub_finding (
    organization_key INTEGER NOT NULL REFERENCES organization, -- the organization
    account_id       TEXT NOT NULL CHECK (length(account_id) = 12), -- the account
    region           TEXT NOT NULL, -- the region
    digest           TEXT NOT NULL, -- a hash of what was said
    imported_at      TEXT NOT NULL, -- when it was last said
    is_archived      INTEGER NOT NULL CHECK (is_archived IN (0, 1)), -- whether what it said holds no more
    finding          TEXT NOT NULL CHECK (json_valid(finding)), -- what was said, to be archived when it holds no more
    PRIMARY KEY (organization_key, account_id, region)
) STRICT, WITHOUT ROWID;

-- What AWS Security Hub was last told of each account × region (`trustwatch export --to security-hub`).
CREATE VIEW security_hub_imports AS
SELECT
    organization.organization_id, -- AWS's id of the organization, or account:<id> for a standalone account
    organization.name AS organization_name, -- the configuration's name of the organization
    hub_finding.account_id, -- the account
    hub_finding.region, -- the region
    hub_finding.imported_at, -- when it was last told
    hub_finding.is_archived = 1 AS archived, -- whether the finding was archived, because it holds no more
    hub_finding.finding -- what it was told: a finding in its own format
FROM hub_finding
JOIN organization USING (organization_key);
