-- The first schema: scans, visits, coverage and analyzers as intervals, and the views that are the public interface.
-- Tables are private; the views are a contract (docs/sql.md). Instants are text, UTC, YYYY-MM-DDTHH:MM:SS.ffffffZ.

-- An AWS organization, or a standalone account.
CREATE TABLE organization (
    organization_key INTEGER PRIMARY KEY,
    organization_id  TEXT NOT NULL UNIQUE, -- o-…, or account:<id> for a standalone account
    name             TEXT NOT NULL         -- the configuration's name for it, as of the newest scan
) STRICT;

-- One run over one organization.
CREATE TABLE scan (
    scan_id                  INTEGER PRIMARY KEY,
    organization_key         INTEGER REFERENCES organization, -- null until AWS has said which organization it is
    organization_name        TEXT NOT NULL, -- the configuration's name for it
    trigger                  TEXT NOT NULL CHECK (trigger IN ('schedule', 'startup', 'manual')),
    scope                    TEXT NOT NULL CHECK (scope IN ('all', 'partial')),
    state                    TEXT NOT NULL CHECK (state IN ('running', 'completed', 'incomplete', 'failed')),
    scheduled_for            TEXT,          -- the instant of the schedule that it answers
    started_at               TEXT NOT NULL,
    finished_at              TEXT,
    accounts                 INTEGER,       -- accounts with a visit; null, as all counts, while it runs
    accounts_audited         INTEGER,
    accounts_unreachable     INTEGER,
    accounts_not_active      INTEGER,
    accounts_excluded        INTEGER,
    account_regions          INTEGER,       -- rows of those accounts when the scan ended
    covered                  INTEGER,
    not_covered              INTEGER,
    not_applicable           INTEGER,
    unknown                  INTEGER,
    covered_last_known       INTEGER,       -- covered, each unknown counted by its last known answer
    not_covered_last_known   INTEGER,       -- not covered, likewise
    requirement              TEXT NOT NULL CHECK (requirement IN ('account', 'organization', 'either', 'both')),
    configuration_hash       TEXT NOT NULL, -- of what can change a verdict: regions, requirement, exclusions
    version                  TEXT NOT NULL, -- of the program
    error                    TEXT,          -- why it is not completed
    CHECK ((state = 'running') = (finished_at IS NULL))
) STRICT;

CREATE INDEX scan_by_organization ON scan (organization_key, scan_id);

-- An account of an organization, as it was last described.
CREATE TABLE account (
    account_key      INTEGER PRIMARY KEY,
    organization_key INTEGER NOT NULL REFERENCES organization,
    account_id       TEXT NOT NULL CHECK (length(account_id) = 12),
    name             TEXT NOT NULL,
    state            TEXT NOT NULL CHECK (state IN ('PENDING_ACTIVATION', 'ACTIVE', 'SUSPENDED', 'PENDING_CLOSURE', 'CLOSED')),
    ou_path          TEXT,          -- o-…/r-…/ou-…; null where it is not known
    checked_at       TEXT,          -- the end of its newest visit that was not pending
    scan_id          INTEGER NOT NULL REFERENCES scan, -- the scan of its newest visit
    left_at          TEXT,          -- when it was found to have left; null while it is a member
    UNIQUE (organization_key, account_id)
) STRICT;

-- What became of one account in one scan.
CREATE TABLE visit (
    scan_id       INTEGER NOT NULL REFERENCES scan,
    account_key   INTEGER NOT NULL REFERENCES account,
    outcome       TEXT NOT NULL CHECK (outcome IN ('audited', 'unreachable', 'not_active', 'excluded', 'pending')),
    error_kind    TEXT CHECK (error_kind IN ('role_not_assumable', 'access_denied', 'scp_denied', 'credentials', 'sts_disabled_in_region', 'throttled', 'timeout', 'network', 'service_error', 'malformed_response')),
    error_message TEXT,
    started_at    TEXT NOT NULL,
    finished_at   TEXT NOT NULL,
    worker        TEXT NOT NULL, -- the process that made the visit
    PRIMARY KEY (scan_id, account_key)
) STRICT, WITHOUT ROWID;

-- A stretch of unchanged status and reason of one account × region.
CREATE TABLE coverage (
    account_key       INTEGER NOT NULL REFERENCES account,
    region            TEXT NOT NULL,
    valid_from        TEXT NOT NULL,
    valid_to          TEXT,          -- null while it holds
    status            TEXT NOT NULL CHECK (status IN ('covered', 'not_covered', 'not_applicable', 'unknown')),
    reason            TEXT NOT NULL CHECK (reason IN ('account_analyzer', 'organization_analyzer', 'account_and_organization_analyzers', 'analyzer_not_active', 'required_zone_of_trust_missing', 'only_other_analyzer_types', 'no_analyzer', 'region_not_opted_in', 'region_not_supported', 'account_not_active', 'excluded', 'role_not_assumable', 'access_denied', 'scp_denied', 'credentials', 'sts_disabled_in_region', 'throttled', 'timeout', 'network', 'service_error', 'malformed_response', 'organization_analyzers_unknown', 'not_reached')),
    analyzer_arn      TEXT,          -- the analyzer that covers, or the one that should but is not active
    first_scan_id     INTEGER NOT NULL REFERENCES scan,
    last_scan_id      INTEGER REFERENCES scan, -- the last scan that saw it; null while it holds
    last_known_status TEXT CHECK (last_known_status IN ('covered', 'not_covered', 'not_applicable')), -- of an unknown: the answer before it
    last_known_at     TEXT,          -- of an unknown: when that answer was last seen to hold
    PRIMARY KEY (account_key, region, valid_from),
    CHECK (valid_to > valid_from),
    CHECK (status = 'unknown' OR (last_known_status IS NULL AND last_known_at IS NULL))
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX coverage_now ON coverage (account_key, region) WHERE valid_to IS NULL;

-- A stretch in which an analyzer was unchanged. What it analyzed last is no change.
CREATE TABLE analyzer (
    organization_key INTEGER NOT NULL REFERENCES organization,
    analyzer_arn     TEXT NOT NULL,
    valid_from       TEXT NOT NULL,
    valid_to         TEXT,           -- null while it holds
    owner_account_id TEXT NOT NULL,  -- from the ARN: an organization analyzer may be listed by others
    region           TEXT NOT NULL,
    name             TEXT NOT NULL,
    type             TEXT NOT NULL,  -- as AWS spells it; AWS may add some, so no closed set
    status           TEXT NOT NULL,
    status_reason    TEXT,
    managed_by       TEXT,           -- the AWS service that manages it
    created_at       TEXT,
    tags             TEXT NOT NULL CHECK (json_valid(tags)),
    PRIMARY KEY (organization_key, analyzer_arn, valid_from),
    CHECK (valid_to > valid_from)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX analyzer_now ON analyzer (organization_key, analyzer_arn) WHERE valid_to IS NULL;
CREATE INDEX analyzer_by_owner ON analyzer (organization_key, owner_account_id, valid_to);

-- Exactly one row for each account × region known: what holds now.
CREATE VIEW current_coverage AS
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
    account.scan_id
FROM coverage
JOIN account USING (account_key)
JOIN organization USING (organization_key)
WHERE coverage.valid_to IS NULL;

-- One row for each scan.
CREATE VIEW scan_summary AS
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
    round((julianday(scan.finished_at) - julianday(scan.started_at)) * 86400.0, 3) AS duration_seconds,
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
    CAST(scan.covered AS REAL) / nullif(scan.covered + scan.not_covered, 0) AS coverage_ratio,
    CAST(scan.covered_last_known AS REAL) / nullif(scan.covered_last_known + scan.not_covered_last_known, 0) AS coverage_ratio_last_known,
    CAST(scan.covered + scan.not_covered AS REAL) / nullif(scan.covered + scan.not_covered + scan.unknown, 0) AS measured_ratio,
    scan.requirement,
    scan.configuration_hash,
    scan.version,
    scan.error
FROM scan
LEFT JOIN organization USING (organization_key);

-- What happened in each account in each scan.
CREATE VIEW account_visits AS
SELECT
    visit.scan_id,
    organization.organization_id,
    organization.name AS organization_name,
    account.account_id,
    visit.outcome,
    visit.error_kind,
    visit.error_message,
    visit.started_at,
    visit.finished_at,
    visit.worker
FROM visit
JOIN account USING (account_key)
JOIN organization USING (organization_key);

-- Every analyzer of any type, as it was last seen.
CREATE VIEW current_analyzers AS
SELECT
    organization.organization_id,
    organization.name AS organization_name,
    analyzer.owner_account_id,
    analyzer.region,
    analyzer.analyzer_arn,
    analyzer.name,
    analyzer.type,
    analyzer.status,
    analyzer.status_reason,
    analyzer.managed_by,
    analyzer.created_at,
    analyzer.tags,
    analyzer.valid_from AS since
FROM analyzer
JOIN organization USING (organization_key)
WHERE analyzer.valid_to IS NULL;
