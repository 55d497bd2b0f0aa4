-- Incidents: what opened gaps, scan by scan; and the messages about them.

-- A scan that has ended and whose incidents have not been looked for. Written as the scan ends, in one with it.
CREATE TABLE alert_due (
    scan_id INTEGER PRIMARY KEY REFERENCES scan -- the scan
) STRICT;

-- One cause of gaps, found by one scan.
CREATE TABLE incident (
    incident_key     INTEGER PRIMARY KEY, -- our number for it
    organization_key INTEGER NOT NULL REFERENCES organization, -- where
    kind             TEXT NOT NULL CHECK (kind IN ('trusted_access_withdrawn', 'delegated_administrator_deregistered', 'organization_analyzer_lost', 'coverage_lost', 'joined_uncovered', 'accounts_unreadable', 'measured_share_low', 'scan_failed')), -- the cause
    subject          TEXT, -- what it is of: the account whose analyzer was lost, why accounts cannot be read, the share that was measured, or why the scan failed
    title            TEXT NOT NULL, -- in one line
    opened_scan_id   INTEGER NOT NULL REFERENCES scan, -- the scan that found it
    opened_at        TEXT NOT NULL, -- when that ended
    closed_scan_id   INTEGER REFERENCES scan, -- the scan that found its last gap gone
    closed_at        TEXT, -- when that ended; null while it is open
    account_regions  INTEGER NOT NULL, -- account × regions that it opened
    accounts         INTEGER NOT NULL, -- accounts of these
    regions          INTEGER NOT NULL -- regions of these
) STRICT;

CREATE INDEX incident_open ON incident (organization_key) WHERE closed_at IS NULL;

-- An account × region that an open incident is about. Gone when it is a gap no more.
CREATE TABLE incident_gap (
    account_key  INTEGER NOT NULL REFERENCES account, -- the account
    region       TEXT NOT NULL, -- the region
    incident_key INTEGER NOT NULL REFERENCES incident, -- the incident
    PRIMARY KEY (account_key, region, incident_key)
) STRICT, WITHOUT ROWID;

CREATE INDEX incident_gap_by_incident ON incident_gap (incident_key);

-- A channel that messages go to, and the process that sends them.
CREATE TABLE alert_channel (
    channel_key  INTEGER PRIMARY KEY, -- our number for it
    name         TEXT NOT NULL UNIQUE, -- its name in the configuration
    worker       TEXT, -- the process that sends; null where none does
    leased_until TEXT -- by the clock of the database: others may send afterwards
) STRICT;

-- A message, in the order in which its channel is told.
CREATE TABLE alert_message (
    message_key      INTEGER PRIMARY KEY, -- our number for it
    channel_key      INTEGER NOT NULL REFERENCES alert_channel, -- where it goes
    event_id         TEXT NOT NULL, -- the same however often it is sent
    kind             TEXT NOT NULL CHECK (kind IN ('opened', 'recovered', 'digest')), -- what it says
    organization_key INTEGER REFERENCES organization, -- of which organization; null for a digest
    scan_id          INTEGER REFERENCES scan, -- the scan that it follows from; null for a digest
    incident_key     INTEGER REFERENCES incident, -- the incident that it opens
    event            TEXT NOT NULL CHECK (json_valid(event)), -- what it says
    created_at       TEXT NOT NULL, -- when there was something to say
    state            TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'dead')), -- how far it came; dead: given up
    attempts         INTEGER NOT NULL, -- how often it was tried
    tried_since      TEXT, -- when it was first tried
    attempted_at     TEXT, -- when it was last tried
    next_attempt_at  TEXT, -- when it is tried next, at the earliest; null for at once
    error            TEXT, -- why the last attempt failed
    UNIQUE (channel_key, event_id)
) STRICT;

CREATE INDEX alert_message_pending ON alert_message (channel_key, message_key) WHERE state = 'pending';
CREATE INDEX alert_message_of_incident ON alert_message (incident_key);

-- What opened gaps, and whether they are closed: one row for each cause and scan.
CREATE VIEW alert_incidents AS
SELECT
    incident.incident_key AS incident_id, -- its number
    organization.organization_id, -- AWS's id of the organization, or account:<id> for a standalone account
    organization.name AS organization_name, -- the configuration's name of the organization
    incident.kind, -- trusted_access_withdrawn, delegated_administrator_deregistered, organization_analyzer_lost, coverage_lost, joined_uncovered, accounts_unreadable, measured_share_low or scan_failed
    CASE WHEN incident.kind IN ('trusted_access_withdrawn', 'delegated_administrator_deregistered', 'organization_analyzer_lost') THEN 'critical' WHEN incident.kind IN ('joined_uncovered', 'accounts_unreadable') THEN 'medium' ELSE 'high' END AS severity, -- critical, high or medium
    incident.subject, -- what it is of: the account whose analyzer was lost, why accounts cannot be read, the share that was measured, or why the scan failed
    incident.title, -- in one line
    incident.opened_scan_id, -- the scan that found it
    incident.opened_at, -- when that ended
    incident.closed_scan_id, -- the scan that found its last gap gone
    incident.closed_at, -- when that ended; null while it is open
    incident.account_regions, -- account × regions that it opened
    incident.accounts, -- accounts of these
    incident.regions, -- regions of these
    (SELECT count(*) FROM incident_gap WHERE incident_gap.incident_key = incident.incident_key) AS open_account_regions -- account × regions of these that are gaps still
FROM incident
JOIN organization USING (organization_key);

-- Every message to every channel, and what became of it.
CREATE VIEW alert_deliveries AS
SELECT
    alert_message.message_key AS delivery_id, -- its number: the order within its channel
    alert_channel.name AS channel, -- the channel, by its name in the configuration
    alert_message.event_id, -- the same however often it is sent
    alert_message.kind, -- opened, recovered or digest
    organization.organization_id, -- AWS's id of the organization, or account:<id> for a standalone account; null for a digest
    organization.name AS organization_name, -- the configuration's name of the organization; null for a digest
    alert_message.scan_id, -- the scan that it follows from; null for a digest
    alert_message.incident_key AS incident_id, -- the incident that it opens; null for others
    alert_message.event, -- what it says
    alert_message.created_at, -- when there was something to say
    alert_message.state, -- pending, delivered or dead: given up
    alert_message.attempts, -- how often it was tried
    alert_message.attempted_at, -- when it was last tried
    alert_message.next_attempt_at, -- when it is tried next, at the earliest
    alert_message.error -- why the last attempt failed
FROM alert_message
JOIN alert_channel USING (channel_key)
LEFT JOIN organization ON organization.organization_key = alert_message.organization_key;
