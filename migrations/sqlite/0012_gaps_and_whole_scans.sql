-- Since when a gap is one, and which scans are of the whole organization: views have said neither.

-- of what is not covered by the last known answer: since when, whatever the reason and however often it could not be read
ALTER TABLE coverage ADD COLUMN uncovered_since TEXT;

UPDATE coverage SET uncovered_since = (
    SELECT coalesce(
        max(CASE WHEN (CASE gap.from_status WHEN 'unknown' THEN gap.last_known_status ELSE gap.from_status END) IS NOT 'not_covered' THEN gap.valid_from END),
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
    account_owner.team, -- and in which team, likewise
    coverage.uncovered_since -- since when it is not covered, whatever the reason and however often it could not be read meanwhile; null where the last known answer is another
FROM coverage
JOIN account USING (account_key)
JOIN organization USING (organization_key)
LEFT JOIN exempted ON exempted.account_key = coverage.account_key AND exempted.region = coverage.region AND exempted.valid_to IS NULL
LEFT JOIN exemption USING (exemption_key)
LEFT JOIN account_owner ON account_owner.account_key = coverage.account_key
WHERE coverage.valid_to IS NULL;

DROP VIEW scan_summary;

-- One row for each scan.
CREATE VIEW scan_summary AS
SELECT
    scan.scan_id, -- its number
    organization.organization_id, -- AWS's id of the organization; null where the scan failed before it was known
    scan.organization_name, -- the configuration's name of the organization
    scan.trigger, -- schedule, startup or manual
    scan.scope, -- all, or partial: some accounts only, left out of trends
    scan.state, -- running, completed, incomplete or failed
    scan.scheduled_for, -- the instant of the schedule that it answers
    scan.started_at, -- when it began
    scan.finished_at, -- when it ended
    ((strftime('%s', scan.finished_at) - strftime('%s', scan.started_at)) * 1000000 + substr(scan.finished_at, 21, 6) - substr(scan.started_at, 21, 6)) / 1000000.0 AS duration_seconds, -- how long it took
    scan.accounts, -- accounts with a visit
    scan.accounts_audited, -- of these, audited
    scan.accounts_unreachable, -- of these, unreachable
    scan.accounts_not_active, -- of these, not active
    scan.accounts_excluded, -- of these, left out by the configuration
    scan.account_regions, -- account × regions of those accounts
    scan.covered, -- of these, covered
    scan.not_covered, -- of these, not covered
    scan.not_applicable, -- of these, not applicable
    scan.unknown, -- of these, unknown
    CAST(scan.covered AS DOUBLE PRECISION) / nullif(scan.covered + scan.not_covered, 0) AS coverage_ratio, -- covered / (covered + not_covered); null where that is 0
    CAST(scan.covered_last_known AS DOUBLE PRECISION) / nullif(scan.covered_last_known + scan.not_covered_last_known, 0) AS coverage_ratio_last_known, -- the same, each unknown counted by its last known answer: it never jumps because an account could not be read
    CAST(scan.covered + scan.not_covered AS DOUBLE PRECISION) / nullif(scan.covered + scan.not_covered + scan.unknown, 0) AS measured_ratio, -- (covered + not_covered) / (covered + not_covered + unknown)
    scan.requirement, -- what satisfied the rule: account, organization, either or both
    scan.configuration_hash, -- of everything in the configuration that can change a verdict
    scan.version, -- of the program
    scan.error, -- why it is not completed
    scan_cost.bound_by, -- what was waited for during the greater part of it; null where the process died first, or the scan is from before this was kept
    scan_cost.discover_seconds, -- for how long accounts were listed, waiting for their visits included; the stages overlap
    scan_cost.assume_seconds, -- for how long roles were assumed
    scan_cost.audit_seconds, -- for how long regions were read
    scan_cost.evaluate_seconds, -- for how long verdicts were reached
    scan_cost.store_seconds, -- for how long visits were stored
    CASE WHEN scan.finished_at IS NOT NULL THEN coalesce(scan_exempt.account_regions, 0) END AS exempt, -- of account_regions, those that are exempt: counted above as what they are
    CASE WHEN scan.finished_at IS NOT NULL THEN coalesce(scan_exempt.not_covered, 0) END AS not_covered_exempt, -- of not_covered, those that are exempt
    CASE WHEN scan.finished_at IS NOT NULL THEN coalesce(scan_exempt.unknown, 0) END AS unknown_exempt, -- of unknown, those that are exempt
    scan.scope = 'all' AND (
        scan.state = 'completed' OR EXISTS (SELECT 1 FROM region_count WHERE region_count.scan_id = scan.scan_id)
    ) AS whole -- whether it looked at the whole organization, if only to find every role gone: newer than the newest such scan nothing is known
FROM scan
LEFT JOIN organization USING (organization_key)
LEFT JOIN scan_cost USING (scan_id)
LEFT JOIN scan_exempt USING (scan_id);
