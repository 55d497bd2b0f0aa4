-- Since when a gap is one, and which scans are of the whole organization: views have said neither.

ALTER TABLE coverage ADD COLUMN uncovered_since TIMESTAMPTZ;
COMMENT ON COLUMN coverage.uncovered_since IS 'of what is not covered by the last known answer: since when, whatever the reason and however often it could not be read';

UPDATE coverage SET uncovered_since = (
    SELECT coalesce(
        max(CASE WHEN (CASE gap.from_status WHEN 'unknown' THEN gap.last_known_status ELSE gap.from_status END) IS DISTINCT FROM 'not_covered' THEN gap.valid_from END),
        min(gap.valid_from),
        coverage.valid_from
    )
    FROM coverage AS gap
    WHERE gap.account_key = coverage.account_key AND gap.region = coverage.region AND gap.status = 'not_covered'
)
WHERE valid_to IS NULL AND (CASE status WHEN 'unknown' THEN last_known_status ELSE status END) = 'not_covered';

-- What holds by its status, the oldest gaps first.
DROP INDEX coverage_by_status;
CREATE INDEX coverage_by_status ON coverage (status, uncovered_since, account_key, region) WHERE valid_to IS NULL;

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
    account_owner.team,
    coverage.uncovered_since
FROM coverage
JOIN account USING (account_key)
JOIN organization USING (organization_key)
LEFT JOIN exempted ON exempted.account_key = coverage.account_key AND exempted.region = coverage.region AND exempted.valid_to IS NULL
LEFT JOIN exemption USING (exemption_key)
LEFT JOIN account_owner ON account_owner.account_key = coverage.account_key
WHERE coverage.valid_to IS NULL;

COMMENT ON COLUMN current_coverage.uncovered_since IS 'since when it is not covered, whatever the reason and however often it could not be read meanwhile; null where the last known answer is another';

CREATE OR REPLACE VIEW scan_summary AS
SELECT
    scan.scan_id,
    organization.organization_id,
    scan.organization_name,
    scan.trigger,
    scan.scope,
    scan.state,
    scan.scheduled_for,
    scan.started_at,
    scan.finished_at,
    CAST(extract(epoch FROM scan.finished_at - scan.started_at) AS DOUBLE PRECISION) AS duration_seconds,
    scan.accounts,
    scan.accounts_audited,
    scan.accounts_unreachable,
    scan.accounts_not_active,
    scan.accounts_excluded,
    scan.account_regions,
    scan.covered,
    scan.not_covered,
    scan.not_applicable,
    scan.unknown,
    CAST(scan.covered AS DOUBLE PRECISION) / nullif(scan.covered + scan.not_covered, 0) AS coverage_ratio,
    CAST(scan.covered_last_known AS DOUBLE PRECISION) / nullif(scan.covered_last_known + scan.not_covered_last_known, 0) AS coverage_ratio_last_known,
    CAST(scan.covered + scan.not_covered AS DOUBLE PRECISION) / nullif(scan.covered + scan.not_covered + scan.unknown, 0) AS measured_ratio,
    scan.requirement,
    scan.configuration_hash,
    scan.version,
    scan.error,
    scan_cost.bound_by,
    scan_cost.discover_seconds,
    scan_cost.assume_seconds,
    scan_cost.audit_seconds,
    scan_cost.evaluate_seconds,
    scan_cost.store_seconds,
    CASE WHEN scan.finished_at IS NOT NULL THEN coalesce(scan_exempt.account_regions, 0) END AS exempt,
    CASE WHEN scan.finished_at IS NOT NULL THEN coalesce(scan_exempt.not_covered, 0) END AS not_covered_exempt,
    CASE WHEN scan.finished_at IS NOT NULL THEN coalesce(scan_exempt.unknown, 0) END AS unknown_exempt,
    scan.scope = 'all' AND (
        scan.state = 'completed' OR EXISTS (SELECT 1 FROM region_count WHERE region_count.scan_id = scan.scan_id)
    ) AS whole
FROM scan
LEFT JOIN organization USING (organization_key)
LEFT JOIN scan_cost USING (scan_id)
LEFT JOIN scan_exempt USING (scan_id);

COMMENT ON COLUMN scan_summary.whole IS 'whether it looked at the whole organization, if only to find every role gone: newer than the newest such scan nothing is known';
