-- Exemptions: gaps that somebody answers for, until a day.

-- An exemption that a configuration holds, or held. Whatever is changed in it makes it another.
CREATE TABLE exemption (
    exemption_key    INTEGER PRIMARY KEY, -- its number
    organization_key INTEGER NOT NULL REFERENCES organization, -- the organization
    digest           TEXT NOT NULL, -- of everything in it
    owner            TEXT NOT NULL, -- who answers for it
    reason           TEXT NOT NULL, -- why
    ticket           TEXT, -- where that was decided
    scope            TEXT NOT NULL CHECK (json_valid(scope)), -- the accounts and regions that it is for
    expires_at       TEXT NOT NULL, -- when it ends
    scan_id          INTEGER NOT NULL REFERENCES scan, -- the newest scan that was made with it
    UNIQUE (organization_key, digest)
) STRICT;

-- The exemption of an account × region, as intervals.
CREATE TABLE exempted (
    account_key   INTEGER NOT NULL REFERENCES account, -- the account
    region        TEXT NOT NULL, -- the region
    valid_from    TEXT NOT NULL, -- when it began
    valid_to      TEXT, -- when it ended; null while it holds
    exemption_key INTEGER NOT NULL REFERENCES exemption, -- by which
    PRIMARY KEY (account_key, region, valid_from),
    CHECK (valid_to > valid_from)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX exempted_now ON exempted (account_key, region) WHERE valid_to IS NULL;

-- What of a scan was exempt; no row where nothing was.
CREATE TABLE scan_exempt (
    scan_id         INTEGER PRIMARY KEY REFERENCES scan, -- the scan
    account_regions INTEGER NOT NULL, -- account × regions that were exempt
    not_covered     INTEGER NOT NULL, -- of these, not covered
    unknown         INTEGER NOT NULL -- of these, unknown
) STRICT;

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
    exemption.expires_at AS exemption_expires_at -- when the exemption ends
FROM coverage
JOIN account USING (account_key)
JOIN organization USING (organization_key)
LEFT JOIN exempted ON exempted.account_key = coverage.account_key AND exempted.region = coverage.region AND exempted.valid_to IS NULL
LEFT JOIN exemption USING (exemption_key)
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
    CASE WHEN scan.finished_at IS NOT NULL THEN coalesce(scan_exempt.unknown, 0) END AS unknown_exempt -- of unknown, those that are exempt
FROM scan
LEFT JOIN organization USING (organization_key)
LEFT JOIN scan_cost USING (scan_id)
LEFT JOIN scan_exempt USING (scan_id);

-- Every exemption of the configuration that the newest scan of its organization was made with, and what it is for.
CREATE VIEW current_exemptions AS
SELECT
    organization.organization_id, -- AWS's id of the organization, or account:<id> for a standalone account
    organization.name AS organization_name, -- the configuration's name of the organization
    exemption.owner, -- who answers for it
    exemption.reason, -- why
    exemption.ticket, -- where that was decided
    exemption.scope, -- the accounts and regions that it is for, as the configuration says it; a JSON object
    exemption.expires_at, -- when it ends
    exemption.expires_at <= strftime('%Y-%m-%dT%H:%M:%f000Z', 'now') AS expired, -- whether it has ended: then nothing is exempt by it
    count(coverage.region) AS account_regions, -- account × regions that it exempts; 0 where it has ended or matches nothing
    count(*) FILTER (WHERE coverage.status = 'covered') AS covered, -- of these, covered
    count(*) FILTER (WHERE coverage.status = 'not_covered') AS not_covered, -- of these, not covered
    count(*) FILTER (WHERE coverage.status = 'unknown') AS unknown -- of these, unknown
FROM exemption
JOIN organization USING (organization_key)
LEFT JOIN exempted ON exempted.exemption_key = exemption.exemption_key AND exempted.valid_to IS NULL AND exemption.expires_at > strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
LEFT JOIN coverage ON coverage.account_key = exempted.account_key AND coverage.region = exempted.region AND coverage.valid_to IS NULL
WHERE exemption.scan_id = (SELECT max(scan.scan_id) FROM scan WHERE scan.organization_key = exemption.organization_key)
GROUP BY exemption.exemption_key, organization.organization_id, organization.name, exemption.owner, exemption.reason, exemption.ticket,
    exemption.scope, exemption.expires_at;

-- What was exempt when, by which exemption. One that has ended ends here at once, before any scan sees it.
CREATE VIEW exemption_history AS
SELECT
    organization.organization_id, -- AWS's id of the organization, or account:<id> for a standalone account
    organization.name AS organization_name, -- the configuration's name of the organization
    account.account_id, -- the account, twelve digits
    exempted.region, -- the region
    exemption.owner, -- who answered for it
    exemption.reason, -- why
    exemption.ticket, -- where that was decided
    exemption.expires_at, -- when it was to end
    exempted.valid_from, -- when the first scan saw it
    coalesce(exempted.valid_to, CASE WHEN exemption.expires_at <= strftime('%Y-%m-%dT%H:%M:%f000Z', 'now') THEN exemption.expires_at END) AS valid_to -- when it ended; null while it holds
FROM exempted
JOIN exemption USING (exemption_key)
JOIN account USING (account_key)
JOIN organization ON organization.organization_key = account.organization_key;
