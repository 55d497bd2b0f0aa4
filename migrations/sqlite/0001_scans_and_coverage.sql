-- Scans, visits, coverage and analyzers as intervals, and the views that are the public interface.
-- Tables are private; the views are a contract (docs/sql.md). Instants are text, UTC, YYYY-MM-DDTHH:MM:SS.ffffffZ.
-- The same numbers, names and comments are in migrations/postgres; a test compares them.

-- An AWS organization, or a standalone account.
CREATE TABLE organization (
    organization_key INTEGER PRIMARY KEY, -- our number for it
    organization_id  TEXT NOT NULL UNIQUE, -- o-…, or account:<id> for a standalone account
    name             TEXT NOT NULL -- the configuration's name for it, as of the newest scan
) STRICT;

-- One run over one organization.
CREATE TABLE scan (
    scan_id                INTEGER PRIMARY KEY, -- its number
    organization_key       INTEGER REFERENCES organization, -- null until AWS has said which organization it is
    organization_name      TEXT NOT NULL, -- the configuration's name for it
    trigger                TEXT NOT NULL CHECK (trigger IN ('schedule', 'startup', 'manual')), -- what started it
    scope                  TEXT NOT NULL CHECK (scope IN ('all', 'partial')), -- every account, or some only
    state                  TEXT NOT NULL CHECK (state IN ('running', 'completed', 'incomplete', 'failed')), -- how far it came
    scheduled_for          TEXT, -- the instant of the schedule that it answers
    started_at             TEXT NOT NULL, -- when it began
    finished_at            TEXT, -- when it ended; null while it runs
    accounts               INTEGER, -- accounts with a visit; null, as all counts, while it runs
    accounts_audited       INTEGER, -- of these, audited
    accounts_unreachable   INTEGER, -- of these, unreachable
    accounts_not_active    INTEGER, -- of these, not active
    accounts_excluded      INTEGER, -- of these, left out by the configuration
    account_regions        INTEGER, -- rows of those accounts when the scan ended
    covered                INTEGER, -- of these rows, covered
    not_covered            INTEGER, -- of these rows, not covered
    not_applicable         INTEGER, -- of these rows, not applicable
    unknown                INTEGER, -- of these rows, unknown
    covered_last_known     INTEGER, -- covered, each unknown counted by its last known answer
    not_covered_last_known INTEGER, -- not covered, each unknown counted by its last known answer
    requirement            TEXT NOT NULL CHECK (requirement IN ('account', 'organization', 'either', 'both')), -- what satisfied the rule
    configuration_hash     TEXT NOT NULL, -- of what can change a verdict: regions, requirement, exclusions
    version                TEXT NOT NULL, -- of the program
    error                  TEXT, -- why it is not completed
    CHECK ((state = 'running') = (finished_at IS NULL))
) STRICT;

CREATE INDEX scan_by_organization ON scan (organization_key, scan_id);
CREATE INDEX scan_running ON scan (organization_name) WHERE state = 'running';

-- An account of an organization, as it was last described.
CREATE TABLE account (
    account_key      INTEGER PRIMARY KEY, -- our number for it
    organization_key INTEGER NOT NULL REFERENCES organization, -- whose member it is
    account_id       TEXT NOT NULL CHECK (length(account_id) = 12), -- AWS's twelve digits
    name             TEXT NOT NULL, -- its name in the organization
    state            TEXT NOT NULL CHECK (state IN ('PENDING_ACTIVATION', 'ACTIVE', 'SUSPENDED', 'PENDING_CLOSURE', 'CLOSED')), -- AWS's word
    ou_path          TEXT, -- o-…/r-…/ou-…; null where it is not known
    checked_at       TEXT, -- the end of its newest visit that was not pending
    changed_at       TEXT, -- the newest boundary of its intervals: none that follows begins or ends before it
    scan_id          INTEGER NOT NULL REFERENCES scan, -- the scan of its newest visit
    left_at          TEXT, -- when it was found to have left; null while it is a member
    UNIQUE (organization_key, account_id)
) STRICT;

-- A process that makes visits.
CREATE TABLE worker (
    worker_key INTEGER PRIMARY KEY, -- our number for it
    name       TEXT NOT NULL UNIQUE -- host and process
) STRICT;

-- What became of one account in one scan.
CREATE TABLE visit (
    scan_id       INTEGER NOT NULL REFERENCES scan, -- the scan
    account_key   INTEGER NOT NULL REFERENCES account, -- the account
    worker_key    INTEGER NOT NULL REFERENCES worker, -- who made the visit
    started_at    TEXT NOT NULL, -- when it began
    finished_at   TEXT NOT NULL, -- when the last answer came in
    outcome       TEXT NOT NULL CHECK (outcome IN ('audited', 'unreachable', 'not_active', 'excluded', 'pending')), -- what became of it
    error_kind    TEXT CHECK (error_kind IN ('role_not_assumable', 'access_denied', 'scp_denied', 'credentials', 'sts_disabled_in_region', 'throttled', 'timeout', 'network', 'service_error', 'malformed_response')), -- why something could not be read
    error_message TEXT, -- what AWS said, for a person
    PRIMARY KEY (scan_id, account_key)
) STRICT, WITHOUT ROWID;

CREATE INDEX visit_by_account ON visit (account_key, scan_id);

-- A stretch of unchanged status and reason of one account × region, with the transition that opened it.
CREATE TABLE coverage (
    account_key       INTEGER NOT NULL REFERENCES account, -- the account
    region            TEXT NOT NULL, -- the region
    valid_from        TEXT NOT NULL, -- when it began to hold
    valid_to          TEXT, -- when it ceased to; null while it holds
    status            TEXT NOT NULL CHECK (status IN ('covered', 'not_covered', 'not_applicable', 'unknown')), -- the verdict
    reason            TEXT NOT NULL CHECK (reason IN ('account_analyzer', 'organization_analyzer', 'account_and_organization_analyzers', 'analyzer_not_active', 'required_zone_of_trust_missing', 'only_other_analyzer_types', 'no_analyzer', 'region_not_opted_in', 'region_not_supported', 'account_not_active', 'excluded', 'role_not_assumable', 'access_denied', 'scp_denied', 'credentials', 'sts_disabled_in_region', 'throttled', 'timeout', 'network', 'service_error', 'malformed_response', 'organization_analyzers_unknown', 'not_reached')), -- why
    analyzer_arn      TEXT, -- the analyzer that covers, or the one that should but is not active
    first_scan_id     INTEGER NOT NULL REFERENCES scan, -- the first scan that saw it
    last_scan_id      INTEGER REFERENCES scan, -- the last scan that saw it; null while it holds
    from_status       TEXT CHECK (from_status IN ('covered', 'not_covered', 'not_applicable', 'unknown')), -- of the interval before; null at first sight
    from_reason       TEXT, -- of the interval before
    cause             TEXT NOT NULL CHECK (cause IN ('world', 'visibility', 'configuration', 'membership')), -- why it began
    last_known_status TEXT CHECK (last_known_status IN ('covered', 'not_covered', 'not_applicable')), -- of an unknown, and of what follows one: the last answer before it that was known
    last_known_reason TEXT, -- the reason of that answer
    last_known_at     TEXT, -- of an unknown: when that answer was last seen to hold
    last_known_scan_id INTEGER REFERENCES scan, -- of an unknown: the scan that last saw that answer
    known_cause       TEXT CHECK (known_cause IN ('world', 'configuration', 'membership')), -- of an answer that follows an unknown and is another than the last known: why
    end_cause         TEXT CHECK (end_cause IN ('world', 'configuration', 'membership')), -- of one that ended and that none follows: why
    end_scan_id       INTEGER REFERENCES scan, -- the scan that found it ended
    PRIMARY KEY (account_key, region, valid_from),
    CHECK (valid_to > valid_from),
    CHECK (status = 'unknown' OR last_known_at IS NULL),
    CHECK ((end_cause IS NULL) = (end_scan_id IS NULL))
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX coverage_now ON coverage (account_key, region) WHERE valid_to IS NULL;
CREATE INDEX coverage_by_time ON coverage (valid_from, valid_to);
CREATE INDEX coverage_by_scan ON coverage (first_scan_id);
CREATE INDEX coverage_ended ON coverage (valid_to) WHERE end_cause IS NOT NULL;
CREATE INDEX coverage_ended_by_scan ON coverage (end_scan_id) WHERE end_cause IS NOT NULL;

-- A stretch in which an analyzer was unchanged. What it analyzed last is no change.
CREATE TABLE analyzer (
    organization_key INTEGER NOT NULL REFERENCES organization, -- whose it is
    analyzer_arn     TEXT NOT NULL, -- its ARN
    valid_from       TEXT NOT NULL, -- when it began to be so
    valid_to         TEXT, -- when it ceased to; null while it holds
    owner_account_id TEXT NOT NULL, -- from the ARN: an organization analyzer may be listed by others
    region           TEXT NOT NULL, -- from the ARN
    name             TEXT NOT NULL, -- as AWS gives it
    type             TEXT NOT NULL, -- as AWS spells it; AWS may add some, so no closed set
    status           TEXT NOT NULL, -- as AWS spells it
    status_reason    TEXT, -- AWS's code, where it gives one
    managed_by       TEXT, -- the AWS service that manages it
    created_at       TEXT, -- when it was created
    tags             TEXT NOT NULL CHECK (json_valid(tags)), -- its tags
    PRIMARY KEY (organization_key, analyzer_arn, valid_from),
    CHECK (valid_to > valid_from)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX analyzer_now ON analyzer (organization_key, analyzer_arn) WHERE valid_to IS NULL;
CREATE INDEX analyzer_by_owner ON analyzer (organization_key, owner_account_id, valid_to);

-- The counts of one region in one scan of all accounts.
CREATE TABLE region_count (
    scan_id                INTEGER NOT NULL REFERENCES scan, -- the scan
    region                 TEXT NOT NULL, -- the region
    covered                INTEGER NOT NULL, -- accounts covered
    not_covered            INTEGER NOT NULL, -- accounts not covered
    not_applicable         INTEGER NOT NULL, -- accounts with nothing to cover
    unknown                INTEGER NOT NULL, -- accounts that could not be looked at
    covered_last_known     INTEGER NOT NULL, -- covered, each unknown counted by its last known answer
    not_covered_last_known INTEGER NOT NULL, -- not covered, each unknown counted by its last known answer
    PRIMARY KEY (scan_id, region)
) STRICT, WITHOUT ROWID;

-- The counts of one OU in one scan of all accounts, by the path that its accounts had then.
CREATE TABLE ou_count (
    scan_id                INTEGER NOT NULL REFERENCES scan, -- the scan
    ou_path                TEXT NOT NULL, -- the OU's path; empty for accounts whose path is not known
    covered                INTEGER NOT NULL, -- account × regions covered
    not_covered            INTEGER NOT NULL, -- account × regions not covered
    not_applicable         INTEGER NOT NULL, -- account × regions with nothing to cover
    unknown                INTEGER NOT NULL, -- account × regions that could not be looked at
    covered_last_known     INTEGER NOT NULL, -- covered, each unknown counted by its last known answer
    not_covered_last_known INTEGER NOT NULL, -- not covered, each unknown counted by its last known answer
    PRIMARY KEY (scan_id, ou_path)
) STRICT, WITHOUT ROWID;

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
    PRIMARY KEY (scan_id, service, operation)
) STRICT, WITHOUT ROWID;

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
    account.scan_id -- the scan of the account's newest visit
FROM coverage
JOIN account USING (account_key)
JOIN organization USING (organization_key)
WHERE coverage.valid_to IS NULL;

-- The same facts as intervals: the state at T is where valid_from <= T and (valid_to is null or valid_to > T).
CREATE VIEW coverage_history AS
SELECT
    organization.organization_id, -- AWS's id of the organization, or account:<id> for a standalone account
    organization.name AS organization_name, -- the configuration's name of the organization
    account.account_id, -- the account, twelve digits
    account.name AS account_name, -- its name, as of its newest visit
    account.state AS account_state, -- its state, as of its newest visit
    account.ou_path, -- its OU, as of its newest visit
    coverage.region, -- the region
    coverage.status, -- covered, not_covered, not_applicable or unknown
    coverage.reason, -- why: one of the reasons of that status
    coverage.analyzer_arn, -- the analyzer that covers, or the one that should but is not active, as of the last scan that saw the interval; analyzer_history has each
    coverage.valid_from, -- when this status and reason began
    coverage.valid_to, -- when they ended; null while they hold
    CASE coverage.status WHEN 'unknown' THEN coverage.last_known_status ELSE coverage.status END AS last_known_status, -- the last answer that was not unknown
    CASE WHEN coverage.status = 'unknown' THEN coverage.last_known_at WHEN coverage.valid_to IS NULL THEN account.checked_at ELSE coverage.valid_to END AS last_known_at, -- when that answer was last known to hold
    coverage.first_scan_id, -- the first scan that saw it
    coalesce(coverage.last_scan_id, account.scan_id) AS last_scan_id -- the last scan that saw it; while it holds, that of the account's newest visit
FROM coverage
JOIN account USING (account_key)
JOIN organization USING (organization_key);

-- Each change of status or reason, first sights and endings included.
CREATE VIEW coverage_transitions AS
SELECT
    coverage.valid_from AS at, -- when it changed, as far as was seen
    coverage.first_scan_id AS scan_id, -- the scan that saw the change
    organization.organization_id, -- AWS's id of the organization, or account:<id> for a standalone account
    organization.name AS organization_name, -- the configuration's name of the organization
    account.account_id, -- the account, twelve digits
    coverage.region, -- the region
    coverage.from_status, -- the status before; null at first sight
    coverage.from_reason, -- the reason before; null at first sight
    coverage.status AS to_status, -- the status after; null where the account or region is gone
    coverage.reason AS to_reason, -- the reason after; null where the account or region is gone
    coverage.cause, -- world, visibility, configuration or membership
    coverage.analyzer_arn -- the analyzer that covers, or the one that should but is not active
FROM coverage
JOIN account USING (account_key)
JOIN organization USING (organization_key)
UNION ALL
SELECT
    coverage.valid_to,
    coverage.end_scan_id,
    organization.organization_id,
    organization.name,
    account.account_id,
    coverage.region,
    coverage.status,
    coverage.reason,
    NULL,
    NULL,
    coverage.end_cause,
    coverage.analyzer_arn
FROM coverage
JOIN account USING (account_key)
JOIN organization USING (organization_key)
WHERE coverage.end_cause IS NOT NULL;

-- Each change from one known answer to the next, however many unknown lie between.
CREATE VIEW coverage_changes AS
SELECT
    coverage.valid_from AS at, -- when the new answer was first seen
    coverage.first_scan_id AS scan_id, -- the scan that saw it
    organization.organization_id, -- AWS's id of the organization, or account:<id> for a standalone account
    organization.name AS organization_name, -- the configuration's name of the organization
    account.account_id, -- the account, twelve digits
    coverage.region, -- the region
    CASE coverage.from_status WHEN 'unknown' THEN coverage.last_known_status ELSE coverage.from_status END AS from_status, -- the known status before; null where there was none
    CASE coverage.from_status WHEN 'unknown' THEN coverage.last_known_reason ELSE coverage.from_reason END AS from_reason, -- the known reason before; null where there was none
    coverage.status AS to_status, -- the status after; null where the account or region is gone
    coverage.reason AS to_reason, -- the reason after; null where the account or region is gone
    coalesce(coverage.known_cause, coverage.cause) AS cause, -- world, configuration or membership
    coverage.analyzer_arn -- the analyzer that covers, or the one that should but is not active
FROM coverage
JOIN account USING (account_key)
JOIN organization USING (organization_key)
WHERE coverage.status <> 'unknown'
    AND (coverage.from_status IS DISTINCT FROM 'unknown' OR coverage.last_known_reason IS DISTINCT FROM coverage.reason)
UNION ALL
SELECT
    coverage.valid_to,
    coverage.end_scan_id,
    organization.organization_id,
    organization.name,
    account.account_id,
    coverage.region,
    CASE coverage.status WHEN 'unknown' THEN coverage.last_known_status ELSE coverage.status END,
    CASE coverage.status WHEN 'unknown' THEN coverage.last_known_reason ELSE coverage.reason END,
    NULL,
    NULL,
    coverage.end_cause,
    coverage.analyzer_arn
FROM coverage
JOIN account USING (account_key)
JOIN organization USING (organization_key)
WHERE coverage.end_cause IS NOT NULL AND (coverage.status <> 'unknown' OR coverage.last_known_status IS NOT NULL);

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
    scan.error -- why it is not completed
FROM scan
LEFT JOIN organization USING (organization_key);

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
    scan_call.seconds -- how long they took together; they overlap
FROM scan_call;

-- The counts of each region in each scan that was for all accounts and read their list to its end.
CREATE VIEW coverage_by_region AS
SELECT
    scan.scan_id, -- the scan
    scan.finished_at AS at, -- when it ended
    organization.organization_id, -- AWS's id of the organization, or account:<id> for a standalone account
    scan.organization_name, -- the configuration's name of the organization
    region_count.region, -- the region
    region_count.covered, -- accounts covered
    region_count.not_covered, -- accounts not covered
    region_count.not_applicable, -- accounts with nothing to cover
    region_count.unknown, -- accounts that could not be looked at
    CAST(region_count.covered AS DOUBLE PRECISION) / nullif(region_count.covered + region_count.not_covered, 0) AS coverage_ratio, -- covered / (covered + not_covered); null where that is 0
    CAST(region_count.covered_last_known AS DOUBLE PRECISION) / nullif(region_count.covered_last_known + region_count.not_covered_last_known, 0) AS coverage_ratio_last_known, -- the same, each unknown counted by its last known answer
    CAST(region_count.covered + region_count.not_covered AS DOUBLE PRECISION) / nullif(region_count.covered + region_count.not_covered + region_count.unknown, 0) AS measured_ratio -- (covered + not_covered) / (covered + not_covered + unknown)
FROM region_count
JOIN scan USING (scan_id)
JOIN organization USING (organization_key);

-- The counts of each OU in each scan that was for all accounts and read their list to its end, by the path that its accounts had then.
CREATE VIEW coverage_by_ou AS
SELECT
    scan.scan_id, -- the scan
    scan.finished_at AS at, -- when it ended
    organization.organization_id, -- AWS's id of the organization, or account:<id> for a standalone account
    scan.organization_name, -- the configuration's name of the organization
    nullif(ou_count.ou_path, '') AS ou_path, -- the OU that holds the accounts directly; null for accounts whose OU is not known
    ou_count.covered, -- account × regions covered
    ou_count.not_covered, -- account × regions not covered
    ou_count.not_applicable, -- account × regions with nothing to cover
    ou_count.unknown, -- account × regions that could not be looked at
    CAST(ou_count.covered AS DOUBLE PRECISION) / nullif(ou_count.covered + ou_count.not_covered, 0) AS coverage_ratio, -- covered / (covered + not_covered); null where that is 0
    CAST(ou_count.covered_last_known AS DOUBLE PRECISION) / nullif(ou_count.covered_last_known + ou_count.not_covered_last_known, 0) AS coverage_ratio_last_known, -- the same, each unknown counted by its last known answer
    CAST(ou_count.covered + ou_count.not_covered AS DOUBLE PRECISION) / nullif(ou_count.covered + ou_count.not_covered + ou_count.unknown, 0) AS measured_ratio -- (covered + not_covered) / (covered + not_covered + unknown)
FROM ou_count
JOIN scan USING (scan_id)
JOIN organization USING (organization_key);

-- The counts of each account in each scan that was for all accounts, read their list to its end, and whose visits are kept: derived from visits and history.
CREATE VIEW coverage_by_account AS
SELECT
    counted.scan_id, -- the scan
    counted.at, -- when it ended
    counted.organization_id, -- AWS's id of the organization, or account:<id> for a standalone account
    counted.organization_name, -- the configuration's name of the organization
    counted.account_id, -- the account, twelve digits
    counted.account_name, -- its name, as of its newest visit
    counted.covered, -- regions covered
    counted.not_covered, -- regions not covered
    counted.not_applicable, -- regions with nothing to cover
    counted.unknown, -- regions that could not be looked at
    CAST(counted.covered AS DOUBLE PRECISION) / nullif(counted.covered + counted.not_covered, 0) AS coverage_ratio, -- covered / (covered + not_covered); null where that is 0
    CAST(counted.covered_last_known AS DOUBLE PRECISION) / nullif(counted.covered_last_known + counted.not_covered_last_known, 0) AS coverage_ratio_last_known, -- the same, each unknown counted by its last known answer
    CAST(counted.covered + counted.not_covered AS DOUBLE PRECISION) / nullif(counted.covered + counted.not_covered + counted.unknown, 0) AS measured_ratio -- (covered + not_covered) / (covered + not_covered + unknown)
FROM (
    SELECT
        visit.scan_id,
        scan.finished_at AS at,
        organization.organization_id,
        organization.name AS organization_name,
        account.account_id,
        account.name AS account_name,
        count(*) FILTER (WHERE coverage.status = 'covered') AS covered,
        count(*) FILTER (WHERE coverage.status = 'not_covered') AS not_covered,
        count(*) FILTER (WHERE coverage.status = 'not_applicable') AS not_applicable,
        count(*) FILTER (WHERE coverage.status = 'unknown') AS unknown,
        count(*) FILTER (WHERE 'covered' IN (coverage.status, CASE coverage.status WHEN 'unknown' THEN coverage.last_known_status END)) AS covered_last_known,
        count(*) FILTER (WHERE 'not_covered' IN (coverage.status, CASE coverage.status WHEN 'unknown' THEN coverage.last_known_status END)) AS not_covered_last_known
    FROM scan
    JOIN organization USING (organization_key)
    JOIN account ON account.organization_key = scan.organization_key
    JOIN visit ON visit.scan_id = scan.scan_id AND visit.account_key = account.account_key
    JOIN coverage ON coverage.account_key = visit.account_key
        AND coverage.first_scan_id <= visit.scan_id
        AND (coverage.last_scan_id IS NULL OR coverage.last_scan_id >= visit.scan_id)
    WHERE EXISTS (SELECT 1 FROM region_count WHERE region_count.scan_id = scan.scan_id)
    GROUP BY visit.scan_id, scan.finished_at, organization.organization_id, organization.name, account.account_id, account.name
) AS counted;

-- What happened in each account in each scan. Old visits are thinned out as the configuration says.
CREATE VIEW account_visits AS
SELECT
    visit.scan_id, -- the scan
    organization.organization_id, -- AWS's id of the organization, or account:<id> for a standalone account
    organization.name AS organization_name, -- the configuration's name of the organization
    account.account_id, -- the account, twelve digits
    visit.outcome, -- audited, unreachable, not_active, excluded or pending
    visit.error_kind, -- why it was unreachable, or what most of the regions that could not be read had in common
    visit.error_message, -- what AWS said, for a person
    visit.started_at, -- when the visit began
    visit.finished_at, -- when the last answer came in
    worker.name AS worker -- the process that made the visit
FROM scan
JOIN organization USING (organization_key)
JOIN account ON account.organization_key = scan.organization_key
JOIN visit ON visit.scan_id = scan.scan_id AND visit.account_key = account.account_key
JOIN worker USING (worker_key);

-- Every analyzer of any type, as it was last seen.
CREATE VIEW current_analyzers AS
SELECT
    organization.organization_id, -- AWS's id of the organization, or account:<id> for a standalone account
    organization.name AS organization_name, -- the configuration's name of the organization
    analyzer.owner_account_id, -- the account that owns it
    analyzer.region, -- where it is
    analyzer.analyzer_arn, -- its ARN
    analyzer.name, -- its name
    analyzer.type, -- ACCOUNT, ORGANIZATION, ACCOUNT_UNUSED_ACCESS, …, as AWS spells it
    analyzer.status, -- ACTIVE, CREATING, DISABLED or FAILED, as AWS spells it
    analyzer.status_reason, -- AWS's code, where it gives one
    analyzer.managed_by, -- the AWS service that manages it
    analyzer.created_at, -- when it was created
    analyzer.tags, -- its tags, as a JSON object
    analyzer.valid_from AS since -- when it began to be so
FROM analyzer
JOIN organization USING (organization_key)
WHERE analyzer.valid_to IS NULL;

-- The same facts as intervals.
CREATE VIEW analyzer_history AS
SELECT
    organization.organization_id, -- AWS's id of the organization, or account:<id> for a standalone account
    organization.name AS organization_name, -- the configuration's name of the organization
    analyzer.owner_account_id, -- the account that owns it
    analyzer.region, -- where it is
    analyzer.analyzer_arn, -- its ARN
    analyzer.name, -- its name
    analyzer.type, -- ACCOUNT, ORGANIZATION, ACCOUNT_UNUSED_ACCESS, …, as AWS spells it
    analyzer.status, -- ACTIVE, CREATING, DISABLED or FAILED, as AWS spells it
    analyzer.status_reason, -- AWS's code, where it gives one
    analyzer.managed_by, -- the AWS service that manages it
    analyzer.created_at, -- when it was created
    analyzer.tags, -- its tags, as a JSON object
    analyzer.valid_from, -- when it began to be so
    analyzer.valid_to -- when it ceased to; null while it holds
FROM analyzer
JOIN organization USING (organization_key);
