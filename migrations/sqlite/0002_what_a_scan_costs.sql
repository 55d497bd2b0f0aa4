-- Where a scan's time goes, and how many bytes its calls move.

-- What a scan cost beside its calls: where its time went.
CREATE TABLE scan_cost (
    scan_id          INTEGER PRIMARY KEY REFERENCES scan, -- the scan
    bound_by         TEXT NOT NULL, -- what was waited for during the greater part of it
    discover_seconds REAL NOT NULL, -- for how long accounts were listed, waiting for their visits included; the stages overlap
    assume_seconds   REAL NOT NULL, -- for how long roles were assumed
    audit_seconds    REAL NOT NULL, -- for how long regions were read
    evaluate_seconds REAL NOT NULL, -- for how long verdicts were reached
    store_seconds    REAL NOT NULL -- for how long visits were stored
) STRICT;

DROP VIEW scan_calls;

ALTER TABLE scan_call RENAME TO scan_call_before;

-- What one operation of AWS cost one scan.
CREATE TABLE scan_call (
    scan_id   INTEGER NOT NULL REFERENCES scan, -- the scan
    service   TEXT NOT NULL, -- as in an IAM policy
    operation TEXT NOT NULL, -- the operation
    calls     INTEGER NOT NULL, -- attempts
    retries   INTEGER NOT NULL, -- of these, second and later ones
    throttled INTEGER NOT NULL, -- of these, throttled
    errors    INTEGER NOT NULL, -- of these, failed
    seconds   REAL NOT NULL, -- how long they took together
    bytes     INTEGER NOT NULL, -- sent and received: heads and bodies, without TLS; 0 where it was not yet counted
    rate_wait_seconds REAL NOT NULL, -- for how long at least one call waited for the operation's rate
    PRIMARY KEY (scan_id, service, operation)
) STRICT, WITHOUT ROWID;

INSERT INTO scan_call (scan_id, service, operation, calls, retries, throttled, errors, seconds, bytes, rate_wait_seconds)
SELECT scan_id, service, operation, calls, retries, throttled, errors, seconds, 0, 0.0 FROM scan_call_before;

DROP TABLE scan_call_before;

-- What each scan cost, by operation of AWS.
CREATE VIEW scan_calls AS
SELECT
    scan_call.scan_id, -- the scan
    scan_call.service, -- as in an IAM policy, such as sts
    scan_call.operation, -- such as AssumeRole
    scan_call.calls, -- attempts
    scan_call.retries, -- of these, second and later ones
    scan_call.throttled, -- of these, throttled
    scan_call.errors, -- of these, failed
    scan_call.seconds, -- how long they took together; they overlap
    scan_call.bytes, -- sent and received: heads and bodies, without TLS; 0 where it was not yet counted
    scan_call.rate_wait_seconds -- for how long at least one call waited for the operation's rate
FROM scan_call;

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
    scan_cost.store_seconds -- for how long visits were stored
FROM scan
LEFT JOIN organization USING (organization_key)
LEFT JOIN scan_cost USING (scan_id);
