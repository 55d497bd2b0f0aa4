-- Findings of Access Analyzer, counted, and analyzers that are not needed.

-- How many findings an analyzer has, as intervals: for as long as it is counted.
CREATE TABLE findings_count (
    organization_key INTEGER NOT NULL REFERENCES organization, -- the organization
    analyzer_arn     TEXT NOT NULL, -- the analyzer
    valid_from       TEXT NOT NULL, -- when it began to be so
    valid_to         TEXT, -- when it ceased to; null while it holds
    active           INTEGER NOT NULL, -- findings that are active
    archived         INTEGER NOT NULL, -- findings that are archived
    resolved         INTEGER NOT NULL, -- findings that are resolved
    public           INTEGER, -- of the active ones, of public access; null where the type knows no such thing
    cross_account    INTEGER, -- of the active ones, of access from other accounts; null likewise
    by_type          TEXT NOT NULL CHECK (json_valid(by_type)), -- the active ones by type of resource or of unused access
    PRIMARY KEY (organization_key, analyzer_arn, valid_from),
    CHECK (valid_to > valid_from)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX findings_count_now ON findings_count (organization_key, analyzer_arn) WHERE valid_to IS NULL;

-- The findings of each region and type of analyzer in each scan of all accounts.
CREATE TABLE findings_scan_count (
    scan_id       INTEGER NOT NULL REFERENCES scan, -- the scan
    region        TEXT NOT NULL, -- the region
    type          TEXT NOT NULL, -- the type of analyzer
    analyzers     INTEGER NOT NULL, -- how many there were with counts
    active        INTEGER NOT NULL, -- their findings that were active
    archived      INTEGER NOT NULL, -- their findings that were archived
    resolved      INTEGER NOT NULL, -- their findings that were resolved
    public        INTEGER, -- of the active ones, of public access
    cross_account INTEGER, -- of the active ones, of access from other accounts
    PRIMARY KEY (scan_id, region, type)
) STRICT, WITHOUT ROWID;

-- How many findings each analyzer has, as AWS counted them in its owner's newest visit (GetFindingsStatistics); no row where they could not be counted. Archived is not active.
CREATE VIEW current_findings_statistics AS
SELECT
    organization.organization_id, -- AWS's id of the organization, or account:<id> for a standalone account
    organization.name AS organization_name, -- the configuration's name of the organization
    analyzer.owner_account_id, -- the account that owns the analyzer
    analyzer.region, -- where it is
    analyzer.analyzer_arn, -- its ARN
    analyzer.type, -- its type, as AWS spells it
    findings_count.active, -- findings that are active
    findings_count.archived, -- findings that are archived
    findings_count.resolved, -- findings that are resolved
    findings_count.public, -- of the active ones, of public access; null where the type knows no such thing
    findings_count.cross_account, -- of the active ones, of access from other accounts; null likewise
    findings_count.by_type, -- the active ones by type of resource or of unused access; a JSON object
    findings_count.valid_from AS since -- when it began to be so
FROM findings_count
JOIN organization USING (organization_key)
JOIN analyzer ON analyzer.organization_key = findings_count.organization_key AND analyzer.analyzer_arn = findings_count.analyzer_arn
    AND analyzer.valid_to IS NULL
WHERE findings_count.valid_to IS NULL;

-- The same counts as intervals.
CREATE VIEW findings_statistics_history AS
SELECT
    organization.organization_id, -- AWS's id of the organization, or account:<id> for a standalone account
    organization.name AS organization_name, -- the configuration's name of the organization
    findings_count.analyzer_arn, -- the analyzer
    findings_count.active, -- findings that are active
    findings_count.archived, -- findings that are archived
    findings_count.resolved, -- findings that are resolved
    findings_count.public, -- of the active ones, of public access; null where the type knows no such thing
    findings_count.cross_account, -- of the active ones, of access from other accounts; null likewise
    findings_count.by_type, -- the active ones by type of resource or of unused access; a JSON object
    findings_count.valid_from, -- when it began to be so
    findings_count.valid_to -- when it ceased to; null while it holds
FROM findings_count
JOIN organization USING (organization_key);

-- The findings of each region and type of analyzer in each scan that was for all accounts and read their list to its end.
CREATE VIEW findings_by_scan AS
SELECT
    findings_scan_count.scan_id, -- the scan
    scan.finished_at AS at, -- when it ended
    organization.organization_id, -- AWS's id of the organization, or account:<id> for a standalone account
    scan.organization_name, -- the configuration's name of the organization
    findings_scan_count.region, -- the region
    findings_scan_count.type, -- the type of analyzer, as AWS spells it
    findings_scan_count.analyzers, -- how many there were with counts
    findings_scan_count.active, -- their findings that were active
    findings_scan_count.archived, -- their findings that were archived
    findings_scan_count.resolved, -- their findings that were resolved
    findings_scan_count.public, -- of the active ones, of public access; null where the type knows no such thing
    findings_scan_count.cross_account -- of the active ones, of access from other accounts; null likewise
FROM findings_scan_count
JOIN scan USING (scan_id)
JOIN organization USING (organization_key);

-- Analyzers that could go: each with the reason, and whether it is paid for. Those that an AWS service manages are not ours to judge.
CREATE VIEW redundant_analyzers AS
WITH own AS (
    SELECT
        analyzer.organization_key,
        analyzer.owner_account_id,
        analyzer.region,
        analyzer.analyzer_arn,
        analyzer.type
    FROM analyzer
    WHERE analyzer.valid_to IS NULL AND analyzer.managed_by IS NULL AND analyzer.status = 'ACTIVE'
),
wide AS (
    SELECT DISTINCT own.organization_key, own.type, CASE own.type WHEN 'ORGANIZATION' THEN own.region ELSE '' END AS region
    FROM own
    WHERE own.type IN ('ORGANIZATION', 'ORGANIZATION_UNUSED_ACCESS')
),
newest AS (
    SELECT scan.organization_key, scan.requirement
    FROM scan
    WHERE scan.scan_id = (SELECT max(later.scan_id) FROM scan AS later WHERE later.organization_key = scan.organization_key)
),
ranked AS (
    SELECT
        own.*,
        row_number() OVER (
            PARTITION BY own.organization_key, own.region, own.type,
                CASE WHEN own.type LIKE 'ORGANIZATION%' THEN '' ELSE own.owner_account_id END
            ORDER BY own.analyzer_arn
        ) AS in_region,
        row_number() OVER (
            PARTITION BY own.organization_key, own.type, CASE WHEN own.type LIKE 'ORGANIZATION%' THEN '' ELSE own.owner_account_id END
            ORDER BY own.analyzer_arn
        ) AS in_all
    FROM own
),
found AS (
    SELECT ranked.*, 'organization_covers' AS why
    FROM ranked
    JOIN newest ON newest.organization_key = ranked.organization_key AND newest.requirement IN ('organization', 'either')
    JOIN wide ON wide.organization_key = ranked.organization_key AND wide.type = 'ORGANIZATION' AND wide.region = ranked.region
    WHERE ranked.type = 'ACCOUNT'
    UNION ALL
    SELECT ranked.*, 'several_of_one_zone'
    FROM ranked
    WHERE ranked.type IN ('ACCOUNT', 'ORGANIZATION') AND ranked.in_region > 1
    UNION ALL
    SELECT ranked.*, 'paid_beside_organization'
    FROM ranked
    JOIN wide ON wide.organization_key = ranked.organization_key AND wide.type = 'ORGANIZATION_UNUSED_ACCESS'
    WHERE ranked.type = 'ACCOUNT_UNUSED_ACCESS'
    UNION ALL
    SELECT ranked.*, 'paid_in_several_regions'
    FROM ranked
    WHERE ranked.type IN ('ACCOUNT_UNUSED_ACCESS', 'ORGANIZATION_UNUSED_ACCESS') AND ranked.in_all > 1
)
SELECT
    organization.organization_id, -- AWS's id of the organization, or account:<id> for a standalone account
    organization.name AS organization_name, -- the configuration's name of the organization
    found.owner_account_id, -- the account that owns it
    found.region, -- where it is
    found.analyzer_arn, -- its ARN
    found.type, -- its type, as AWS spells it
    found.why, -- organization_covers, several_of_one_zone, paid_beside_organization or paid_in_several_regions: results of unused access do not vary by region
    found.type IN ('ACCOUNT_UNUSED_ACCESS', 'ORGANIZATION_UNUSED_ACCESS') AS billed -- whether AWS bills it, by IAM user and role
FROM found
JOIN organization ON organization.organization_key = found.organization_key;
