-- Findings of Access Analyzer, counted, and analyzers that are not needed.

CREATE TABLE findings_count (
    organization_key INTEGER NOT NULL REFERENCES organization,
    analyzer_arn     TEXT NOT NULL,
    valid_from       TIMESTAMPTZ NOT NULL,
    valid_to         TIMESTAMPTZ,
    active           BIGINT NOT NULL,
    archived         BIGINT NOT NULL,
    resolved         BIGINT NOT NULL,
    public           BIGINT,
    cross_account    BIGINT,
    by_type          JSONB NOT NULL,
    PRIMARY KEY (organization_key, analyzer_arn, valid_from),
    CHECK (valid_to > valid_from)
);

CREATE UNIQUE INDEX findings_count_now ON findings_count (organization_key, analyzer_arn) WHERE valid_to IS NULL;

CREATE TABLE findings_scan_count (
    scan_id       BIGINT NOT NULL REFERENCES scan,
    region        TEXT NOT NULL,
    type          TEXT NOT NULL,
    analyzers     BIGINT NOT NULL,
    active        BIGINT NOT NULL,
    archived      BIGINT NOT NULL,
    resolved      BIGINT NOT NULL,
    public        BIGINT,
    cross_account BIGINT,
    PRIMARY KEY (scan_id, region, type)
);

CREATE VIEW current_findings_statistics AS
SELECT
    organization.organization_id,
    organization.name AS organization_name,
    analyzer.owner_account_id,
    analyzer.region,
    analyzer.analyzer_arn,
    analyzer.type,
    findings_count.active,
    findings_count.archived,
    findings_count.resolved,
    findings_count.public,
    findings_count.cross_account,
    findings_count.by_type,
    findings_count.valid_from AS since
FROM findings_count
JOIN organization USING (organization_key)
JOIN analyzer ON analyzer.organization_key = findings_count.organization_key AND analyzer.analyzer_arn = findings_count.analyzer_arn
    AND analyzer.valid_to IS NULL
WHERE findings_count.valid_to IS NULL;

CREATE VIEW findings_statistics_history AS
SELECT
    organization.organization_id,
    organization.name AS organization_name,
    findings_count.analyzer_arn,
    findings_count.active,
    findings_count.archived,
    findings_count.resolved,
    findings_count.public,
    findings_count.cross_account,
    findings_count.by_type,
    findings_count.valid_from,
    findings_count.valid_to
FROM findings_count
JOIN organization USING (organization_key);

CREATE VIEW findings_by_scan AS
SELECT
    findings_scan_count.scan_id,
    scan.finished_at AS at,
    organization.organization_id,
    scan.organization_name,
    findings_scan_count.region,
    findings_scan_count.type,
    findings_scan_count.analyzers,
    findings_scan_count.active,
    findings_scan_count.archived,
    findings_scan_count.resolved,
    findings_scan_count.public,
    findings_scan_count.cross_account
FROM findings_scan_count
JOIN scan USING (scan_id)
JOIN organization USING (organization_key);

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
    organization.organization_id,
    organization.name AS organization_name,
    found.owner_account_id,
    found.region,
    found.analyzer_arn,
    found.type,
    found.why,
    found.type IN ('ACCOUNT_UNUSED_ACCESS', 'ORGANIZATION_UNUSED_ACCESS') AS billed
FROM found
JOIN organization ON organization.organization_key = found.organization_key;

COMMENT ON TABLE findings_count IS 'How many findings an analyzer has, as intervals: for as long as it is counted.';
COMMENT ON COLUMN findings_count.organization_key IS 'the organization';
COMMENT ON COLUMN findings_count.analyzer_arn IS 'the analyzer';
COMMENT ON COLUMN findings_count.valid_from IS 'when it began to be so';
COMMENT ON COLUMN findings_count.valid_to IS 'when it ceased to; null while it holds';
COMMENT ON COLUMN findings_count.active IS 'findings that are active';
COMMENT ON COLUMN findings_count.archived IS 'findings that are archived';
COMMENT ON COLUMN findings_count.resolved IS 'findings that are resolved';
COMMENT ON COLUMN findings_count.public IS 'of the active ones, of public access; null where the type knows no such thing';
COMMENT ON COLUMN findings_count.cross_account IS 'of the active ones, of access from other accounts; null likewise';
COMMENT ON COLUMN findings_count.by_type IS 'the active ones by type of resource or of unused access';
COMMENT ON TABLE findings_scan_count IS 'The findings of each region and type of analyzer in each scan of all accounts.';
COMMENT ON COLUMN findings_scan_count.scan_id IS 'the scan';
COMMENT ON COLUMN findings_scan_count.region IS 'the region';
COMMENT ON COLUMN findings_scan_count.type IS 'the type of analyzer';
COMMENT ON COLUMN findings_scan_count.analyzers IS 'how many there were with counts';
COMMENT ON COLUMN findings_scan_count.active IS 'their findings that were active';
COMMENT ON COLUMN findings_scan_count.archived IS 'their findings that were archived';
COMMENT ON COLUMN findings_scan_count.resolved IS 'their findings that were resolved';
COMMENT ON COLUMN findings_scan_count.public IS 'of the active ones, of public access';
COMMENT ON COLUMN findings_scan_count.cross_account IS 'of the active ones, of access from other accounts';
COMMENT ON VIEW current_findings_statistics IS 'How many findings each analyzer has, as AWS counted them in its owner''s newest visit (GetFindingsStatistics); no row where they could not be counted. Archived is not active.';
COMMENT ON COLUMN current_findings_statistics.organization_id IS 'AWS''s id of the organization, or account:<id> for a standalone account';
COMMENT ON COLUMN current_findings_statistics.organization_name IS 'the configuration''s name of the organization';
COMMENT ON COLUMN current_findings_statistics.owner_account_id IS 'the account that owns the analyzer';
COMMENT ON COLUMN current_findings_statistics.region IS 'where it is';
COMMENT ON COLUMN current_findings_statistics.analyzer_arn IS 'its ARN';
COMMENT ON COLUMN current_findings_statistics.type IS 'its type, as AWS spells it';
COMMENT ON COLUMN current_findings_statistics.active IS 'findings that are active';
COMMENT ON COLUMN current_findings_statistics.archived IS 'findings that are archived';
COMMENT ON COLUMN current_findings_statistics.resolved IS 'findings that are resolved';
COMMENT ON COLUMN current_findings_statistics.public IS 'of the active ones, of public access; null where the type knows no such thing';
COMMENT ON COLUMN current_findings_statistics.cross_account IS 'of the active ones, of access from other accounts; null likewise';
COMMENT ON COLUMN current_findings_statistics.by_type IS 'the active ones by type of resource or of unused access; a JSON object';
COMMENT ON COLUMN current_findings_statistics.since IS 'when it began to be so';
COMMENT ON VIEW findings_statistics_history IS 'The same counts as intervals.';
COMMENT ON COLUMN findings_statistics_history.organization_id IS 'AWS''s id of the organization, or account:<id> for a standalone account';
COMMENT ON COLUMN findings_statistics_history.organization_name IS 'the configuration''s name of the organization';
COMMENT ON COLUMN findings_statistics_history.analyzer_arn IS 'the analyzer';
COMMENT ON COLUMN findings_statistics_history.active IS 'findings that are active';
COMMENT ON COLUMN findings_statistics_history.archived IS 'findings that are archived';
COMMENT ON COLUMN findings_statistics_history.resolved IS 'findings that are resolved';
COMMENT ON COLUMN findings_statistics_history.public IS 'of the active ones, of public access; null where the type knows no such thing';
COMMENT ON COLUMN findings_statistics_history.cross_account IS 'of the active ones, of access from other accounts; null likewise';
COMMENT ON COLUMN findings_statistics_history.by_type IS 'the active ones by type of resource or of unused access; a JSON object';
COMMENT ON COLUMN findings_statistics_history.valid_from IS 'when it began to be so';
COMMENT ON COLUMN findings_statistics_history.valid_to IS 'when it ceased to; null while it holds';
COMMENT ON VIEW findings_by_scan IS 'The findings of each region and type of analyzer in each scan that was for all accounts and read their list to its end.';
COMMENT ON COLUMN findings_by_scan.scan_id IS 'the scan';
COMMENT ON COLUMN findings_by_scan.at IS 'when it ended';
COMMENT ON COLUMN findings_by_scan.organization_id IS 'AWS''s id of the organization, or account:<id> for a standalone account';
COMMENT ON COLUMN findings_by_scan.organization_name IS 'the configuration''s name of the organization';
COMMENT ON COLUMN findings_by_scan.region IS 'the region';
COMMENT ON COLUMN findings_by_scan.type IS 'the type of analyzer, as AWS spells it';
COMMENT ON COLUMN findings_by_scan.analyzers IS 'how many there were with counts';
COMMENT ON COLUMN findings_by_scan.active IS 'their findings that were active';
COMMENT ON COLUMN findings_by_scan.archived IS 'their findings that were archived';
COMMENT ON COLUMN findings_by_scan.resolved IS 'their findings that were resolved';
COMMENT ON COLUMN findings_by_scan.public IS 'of the active ones, of public access; null where the type knows no such thing';
COMMENT ON COLUMN findings_by_scan.cross_account IS 'of the active ones, of access from other accounts; null likewise';
COMMENT ON VIEW redundant_analyzers IS 'Analyzers that could go: each with the reason, and whether it is paid for. Those that an AWS service manages are not ours to judge.';
COMMENT ON COLUMN redundant_analyzers.organization_id IS 'AWS''s id of the organization, or account:<id> for a standalone account';
COMMENT ON COLUMN redundant_analyzers.organization_name IS 'the configuration''s name of the organization';
COMMENT ON COLUMN redundant_analyzers.owner_account_id IS 'the account that owns it';
COMMENT ON COLUMN redundant_analyzers.region IS 'where it is';
COMMENT ON COLUMN redundant_analyzers.analyzer_arn IS 'its ARN';
COMMENT ON COLUMN redundant_analyzers.type IS 'its type, as AWS spells it';
COMMENT ON COLUMN redundant_analyzers.why IS 'organization_covers, several_of_one_zone, paid_beside_organization or paid_in_several_regions: results of unused access do not vary by region';
COMMENT ON COLUMN redundant_analyzers.billed IS 'whether AWS bills it, by IAM user and role';
