-- Findings of Access Analyzer, one by one, and the rules that archive them.

-- An analyzer whose findings are read one by one, and how far that has come.
CREATE TABLE reading (
    reading_key      INTEGER PRIMARY KEY, -- its number
    organization_key INTEGER NOT NULL REFERENCES organization, -- the organization
    analyzer_arn     TEXT NOT NULL, -- the analyzer
    account_id       TEXT NOT NULL CHECK (length(account_id) = 12), -- the account that owns it
    region           TEXT NOT NULL, -- where it is
    type             TEXT NOT NULL, -- its type, as AWS spells it
    detail           TEXT CHECK (detail IN ('active', 'all')), -- which findings were asked for when it was last read to its end
    read_at          TEXT, -- when it was last read to its end
    tried_at         TEXT, -- when that was last tried
    problem          TEXT, -- why it failed then
    rules_read_at    TEXT, -- when its archive rules were last read
    scan_id          INTEGER NOT NULL REFERENCES scan, -- the newest scan that is to read it, or has
    is_due           INTEGER NOT NULL CHECK (is_due IN (0, 1)), -- whether it still is to be read in that scan
    worker_key       INTEGER REFERENCES worker, -- the process that reads it
    UNIQUE (organization_key, analyzer_arn)
) STRICT;

CREATE INDEX reading_due ON reading (scan_id, tried_at, account_id, region, analyzer_arn) WHERE is_due = 1;

CREATE INDEX reading_claimed ON reading (worker_key) WHERE is_due = 1;

-- A finding, as intervals: each time it changed.
CREATE TABLE finding (
    reading_key   INTEGER NOT NULL REFERENCES reading, -- its analyzer
    finding_id    TEXT NOT NULL, -- its id
    valid_from    TEXT NOT NULL, -- when it was first seen so
    valid_to      TEXT, -- when it was first seen otherwise, or listed no more; null while it holds
    status        TEXT NOT NULL, -- its status, as AWS spells it
    type          TEXT NOT NULL, -- its type, as AWS spells it
    resource      TEXT, -- the resource that it is about
    resource_type TEXT NOT NULL, -- its type
    owner_id      TEXT NOT NULL, -- the account that owns the resource
    is_public     INTEGER CHECK (is_public IN (0, 1)), -- whether access is public
    principal     TEXT CHECK (json_valid(principal)), -- who has access
    action        TEXT CHECK (json_valid(action)), -- to what
    condition     TEXT CHECK (json_valid(condition)), -- under which conditions
    error         TEXT, -- why AWS could not analyze the resource
    created_at    TEXT, -- when AWS made it
    updated_at    TEXT, -- when AWS last changed it, as of the beginning of the interval
    PRIMARY KEY (reading_key, finding_id, valid_from),
    CHECK (valid_to > valid_from)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX finding_now ON finding (reading_key, finding_id) WHERE valid_to IS NULL;

CREATE INDEX finding_by_id ON finding (finding_id);

CREATE INDEX finding_ended ON finding (valid_to) WHERE valid_to IS NOT NULL;

-- A rule by which an analyzer archives findings.
CREATE TABLE archive_rule (
    reading_key INTEGER NOT NULL REFERENCES reading, -- the analyzer
    rule_name   TEXT NOT NULL, -- its name
    filter      TEXT NOT NULL, -- what it archives: a JSON object with its keys in order
    PRIMARY KEY (reading_key, rule_name)
) STRICT, WITHOUT ROWID;

-- The findings of each analyzer, as last listed (`findings.detail`). One that is ARCHIVED or RESOLVED is not active; of an analyzer that could not be read again, what was last seen: `read_at` says when.
CREATE VIEW current_findings AS
SELECT
    organization.organization_id, -- AWS's id of the organization, or account:<id> for a standalone account
    organization.name AS organization_name, -- the configuration's name of the organization
    reading.account_id AS owner_account_id, -- the account that owns the analyzer
    reading.region, -- where it is
    reading.analyzer_arn, -- the analyzer
    reading.type AS analyzer_type, -- its type, as AWS spells it
    finding.finding_id, -- its id
    finding.status, -- ACTIVE, ARCHIVED or RESOLVED
    finding.type, -- its type, as AWS spells it: ExternalAccess for every finding of an analyzer of external access
    finding.resource, -- the resource that it is about
    finding.resource_type, -- its type, as AWS spells it
    finding.owner_id AS resource_account_id, -- the account that owns the resource
    account.name AS resource_account_name, -- its name, where it is of this organization
    finding.is_public = 1 AS is_public, -- whether access is public; null where the type of analyzer knows no such thing
    finding.principal, -- who has access: a JSON object; null likewise
    finding.action, -- to what: a JSON array; null likewise
    finding.condition, -- under which conditions: a JSON object; null likewise
    finding.error, -- why AWS could not analyze the resource
    finding.created_at, -- when AWS made it
    finding.updated_at, -- when AWS last changed it, as of `since`
    finding.valid_from AS since, -- since when it is so
    reading.read_at -- when its analyzer was last read to its end
FROM finding
JOIN reading USING (reading_key)
JOIN organization USING (organization_key)
JOIN analyzer ON analyzer.organization_key = reading.organization_key AND analyzer.analyzer_arn = reading.analyzer_arn
    AND analyzer.valid_to IS NULL
LEFT JOIN account ON account.organization_key = reading.organization_key AND account.account_id = finding.owner_id
WHERE finding.valid_to IS NULL;

-- The same findings as intervals. One that ends and has no next was listed no more: of `detail = "active"`, it was archived or resolved; else AWS has forgotten it, or its analyzer is gone.
CREATE VIEW finding_history AS
SELECT
    organization.organization_id, -- AWS's id of the organization, or account:<id> for a standalone account
    organization.name AS organization_name, -- the configuration's name of the organization
    reading.account_id AS owner_account_id, -- the account that owns the analyzer
    reading.region, -- where it is
    reading.analyzer_arn, -- the analyzer
    finding.finding_id, -- its id
    finding.status, -- ACTIVE, ARCHIVED or RESOLVED
    finding.type, -- its type, as AWS spells it
    finding.resource, -- the resource that it is about
    finding.resource_type, -- its type, as AWS spells it
    finding.owner_id AS resource_account_id, -- the account that owns the resource
    finding.is_public = 1 AS is_public, -- whether access is public; null where the type of analyzer knows no such thing
    finding.principal, -- who has access: a JSON object; null likewise
    finding.action, -- to what: a JSON array; null likewise
    finding.condition, -- under which conditions: a JSON object; null likewise
    finding.error, -- why AWS could not analyze the resource
    finding.valid_from, -- when it was first seen so
    finding.valid_to -- when it was first seen otherwise, or listed no more; null while it holds
FROM finding
JOIN reading USING (reading_key)
JOIN organization USING (organization_key);

-- How far the reading of each analyzer's findings has come (`findings.detail`): where `problem` is set, its findings are as old as `read_at`.
CREATE VIEW findings_readings AS
SELECT
    organization.organization_id, -- AWS's id of the organization, or account:<id> for a standalone account
    organization.name AS organization_name, -- the configuration's name of the organization
    reading.account_id AS owner_account_id, -- the account that owns the analyzer
    reading.region, -- where it is
    reading.analyzer_arn, -- the analyzer
    reading.type AS analyzer_type, -- its type, as AWS spells it
    reading.detail, -- which findings were asked for when it was last read to its end: active, or all
    reading.read_at, -- when it was last read to its end; null if never
    reading.tried_at, -- when that was last tried
    reading.problem, -- why it failed then; null where it did not
    reading.rules_read_at -- when its archive rules were last read; null if never
FROM reading
JOIN organization USING (organization_key)
JOIN analyzer ON analyzer.organization_key = reading.organization_key AND analyzer.analyzer_arn = reading.analyzer_arn
    AND analyzer.valid_to IS NULL;

-- Archive rules that an owner's analyzers of one type do not all have alike: what is archived in one region is active in another.
CREATE VIEW archive_rule_drift AS
WITH place AS (
    SELECT reading.reading_key, reading.organization_key, reading.account_id, reading.type, reading.region, reading.analyzer_arn
    FROM reading
    JOIN analyzer ON analyzer.organization_key = reading.organization_key AND analyzer.analyzer_arn = reading.analyzer_arn
        AND analyzer.valid_to IS NULL
    WHERE reading.rules_read_at IS NOT NULL AND analyzer.managed_by IS NULL
),
rule AS (
    SELECT
        place.organization_key,
        place.account_id,
        place.type,
        archive_rule.rule_name,
        count(*) AS analyzers,
        count(DISTINCT archive_rule.filter) AS filters
    FROM place
    JOIN archive_rule USING (reading_key)
    GROUP BY place.organization_key, place.account_id, place.type, archive_rule.rule_name
)
SELECT
    organization.organization_id, -- AWS's id of the organization, or account:<id> for a standalone account
    organization.name AS organization_name, -- the configuration's name of the organization
    place.account_id AS owner_account_id, -- the account that owns the analyzers
    place.type AS analyzer_type, -- their type, as AWS spells it
    rule.rule_name, -- the rule
    place.region, -- where it is missing, or not the same everywhere
    place.analyzer_arn, -- the analyzer there
    CASE WHEN archive_rule.filter IS NULL THEN 'missing' ELSE 'different' END AS drift, -- missing, or different
    archive_rule.filter, -- what it archives there: a JSON object; null where it is missing
    rule.analyzers -- how many of the owner's analyzers of this type have it
FROM rule
JOIN place ON place.organization_key = rule.organization_key AND place.account_id = rule.account_id AND place.type = rule.type
JOIN organization ON organization.organization_key = place.organization_key
LEFT JOIN archive_rule ON archive_rule.reading_key = place.reading_key AND archive_rule.rule_name = rule.rule_name
WHERE archive_rule.filter IS NULL OR rule.filters > 1;
