-- Work that survives its process, and that several processes share.

-- A scan that is at work: what all who take part in it know. Gone when it has ended.
CREATE TABLE scan_work (
    scan_id        INTEGER PRIMARY KEY REFERENCES scan, -- the scan
    known_accounts INTEGER, -- members when it began; null until the organization is known
    discovered     TEXT CHECK (json_valid(discovered)), -- the organization and the owners of its analyzers; null until they are known
    lister_key     INTEGER REFERENCES worker, -- the process that lists its accounts
    listed_at      TEXT, -- when the list ended; null while it is read
    list_error     TEXT, -- why it did not end well
    entered        INTEGER NOT NULL, -- accounts that were entered with their role
    locked         INTEGER NOT NULL, -- accounts whose role could not be assumed
    example        TEXT -- one of these, and why
) STRICT;

-- A process that takes part in a scan. Gone when it leaves, or the scan has ended.
CREATE TABLE participant (
    scan_id     INTEGER NOT NULL REFERENCES scan, -- the scan
    worker_key  INTEGER NOT NULL REFERENCES worker, -- the process
    alive_until TEXT NOT NULL, -- by the clock of the database: what it claimed is free afterwards
    PRIMARY KEY (scan_id, worker_key)
) STRICT, WITHOUT ROWID;

-- An account that a scan has still to visit. Gone when its visit is recorded.
CREATE TABLE claim (
    scan_id    INTEGER NOT NULL REFERENCES scan, -- the scan
    account_id TEXT NOT NULL CHECK (length(account_id) = 12), -- AWS's twelve digits
    rank       INTEGER NOT NULL CHECK (rank IN (0, 1)), -- 0 for those that may own the organization's analyzers: they come first
    account    TEXT NOT NULL CHECK (json_valid(account)), -- the account as it was listed
    worker_key INTEGER REFERENCES worker, -- the process that visits it; null while nobody does
    PRIMARY KEY (scan_id, account_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX claim_in_order ON claim (scan_id, rank, account_id);

-- What an owner of the organization's analyzers said in a scan. Gone when it has ended.
CREATE TABLE owner_view (
    scan_id    INTEGER NOT NULL REFERENCES scan, -- the scan
    account_id TEXT NOT NULL CHECK (length(account_id) = 12), -- the owner
    regions    TEXT NOT NULL CHECK (json_valid(regions)), -- by region that could be read: its analyzers
    PRIMARY KEY (scan_id, account_id)
) STRICT, WITHOUT ROWID;

-- A scan that was at work when this came is gone on with.
INSERT INTO scan_work (scan_id, entered, locked) SELECT scan_id, 0, 0 FROM scan WHERE state = 'running';

-- A scan is unique per organization and scheduled instant. What was made twice before keeps its newest.
UPDATE scan SET scheduled_for = NULL
WHERE EXISTS (
    SELECT 1 FROM scan AS newer
    WHERE newer.organization_name = scan.organization_name AND newer.scheduled_for = scan.scheduled_for AND newer.scan_id > scan.scan_id
);

CREATE UNIQUE INDEX scan_scheduled ON scan (organization_name, scheduled_for) WHERE scheduled_for IS NOT NULL;
