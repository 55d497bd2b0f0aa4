-- What each role may do, after `trustwatch migrate` as the owner: the statements of docs/sql.md, which says why.
GRANT USAGE ON SCHEMA trustwatch TO trustwatch_daemon;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA trustwatch TO trustwatch_daemon;
ALTER DEFAULT PRIVILEGES IN SCHEMA trustwatch GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO trustwatch_daemon;

GRANT USAGE ON SCHEMA trustwatch TO trustwatch_analyst;
GRANT SELECT ON
    trustwatch.current_coverage, trustwatch.coverage_history, trustwatch.coverage_transitions, trustwatch.coverage_changes,
    trustwatch.coverage_by_region, trustwatch.coverage_by_ou, trustwatch.coverage_by_account, trustwatch.scan_summary,
    trustwatch.scan_calls, trustwatch.account_visits, trustwatch.current_analyzers, trustwatch.analyzer_history,
    trustwatch.current_exemptions, trustwatch.exemption_history, trustwatch.remediation_actions,
    trustwatch.current_findings_statistics, trustwatch.findings_statistics_history, trustwatch.findings_by_scan,
    trustwatch.redundant_analyzers, trustwatch.current_findings, trustwatch.finding_history,
    trustwatch.findings_readings, trustwatch.archive_rule_drift, trustwatch.security_hub_imports,
    trustwatch.alert_incidents, trustwatch.alert_deliveries, trustwatch.current_accounts,
    trustwatch._sqlx_migrations
TO trustwatch_analyst;
ALTER ROLE trustwatch_analyst SET search_path = trustwatch;
ALTER ROLE trustwatch_analyst SET timezone = 'UTC';
