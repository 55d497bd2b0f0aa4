-- Where a scan's time goes, and how many bytes its calls move.

CREATE TABLE scan_cost (
    scan_id          BIGINT PRIMARY KEY REFERENCES scan,
    bound_by         TEXT NOT NULL,
    discover_seconds DOUBLE PRECISION NOT NULL,
    assume_seconds   DOUBLE PRECISION NOT NULL,
    audit_seconds    DOUBLE PRECISION NOT NULL,
    evaluate_seconds DOUBLE PRECISION NOT NULL,
    store_seconds    DOUBLE PRECISION NOT NULL
);

ALTER TABLE scan_call
    ADD COLUMN bytes BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN rate_wait_seconds DOUBLE PRECISION NOT NULL DEFAULT 0;

ALTER TABLE scan_call
    ALTER COLUMN bytes DROP DEFAULT,
    ALTER COLUMN rate_wait_seconds DROP DEFAULT;

CREATE OR REPLACE VIEW scan_calls AS
SELECT
    scan_call.scan_id,
    scan_call.service,
    scan_call.operation,
    scan_call.calls,
    scan_call.retries,
    scan_call.throttled,
    scan_call.errors,
    scan_call.seconds,
    scan_call.bytes,
    scan_call.rate_wait_seconds
FROM scan_call;

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
    scan_cost.store_seconds
FROM scan
LEFT JOIN organization USING (organization_key)
LEFT JOIN scan_cost USING (scan_id);

COMMENT ON TABLE scan_cost IS 'What a scan cost beside its calls: where its time went.';
COMMENT ON COLUMN scan_cost.scan_id IS 'the scan';
COMMENT ON COLUMN scan_cost.bound_by IS 'what was waited for during the greater part of it';
COMMENT ON COLUMN scan_cost.discover_seconds IS 'for how long accounts were listed, waiting for their visits included; the stages overlap';
COMMENT ON COLUMN scan_cost.assume_seconds IS 'for how long roles were assumed';
COMMENT ON COLUMN scan_cost.audit_seconds IS 'for how long regions were read';
COMMENT ON COLUMN scan_cost.evaluate_seconds IS 'for how long verdicts were reached';
COMMENT ON COLUMN scan_cost.store_seconds IS 'for how long visits were stored';
COMMENT ON COLUMN scan_call.bytes IS 'sent and received: heads and bodies, without TLS; 0 where it was not yet counted';
COMMENT ON COLUMN scan_call.rate_wait_seconds IS 'for how long at least one call waited for the operation''s rate';
COMMENT ON COLUMN scan_calls.bytes IS 'sent and received: heads and bodies, without TLS; 0 where it was not yet counted';
COMMENT ON COLUMN scan_calls.rate_wait_seconds IS 'for how long at least one call waited for the operation''s rate';
COMMENT ON COLUMN scan_summary.bound_by IS 'what was waited for during the greater part of it; null where the process died first, or the scan is from before this was kept';
COMMENT ON COLUMN scan_summary.discover_seconds IS 'for how long accounts were listed, waiting for their visits included; the stages overlap';
COMMENT ON COLUMN scan_summary.assume_seconds IS 'for how long roles were assumed';
COMMENT ON COLUMN scan_summary.audit_seconds IS 'for how long regions were read';
COMMENT ON COLUMN scan_summary.evaluate_seconds IS 'for how long verdicts were reached';
COMMENT ON COLUMN scan_summary.store_seconds IS 'for how long visits were stored';
