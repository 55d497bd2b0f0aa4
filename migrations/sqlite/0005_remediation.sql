-- What was changed in AWS, by whom, and by which plan.

-- Something that was changed in AWS, or was to be.
CREATE TABLE remediation_action (
    action_id        INTEGER PRIMARY KEY, -- its number
    organization_key INTEGER NOT NULL REFERENCES organization, -- the organization
    action           TEXT NOT NULL CHECK (action IN ('create_analyzer', 'delete_analyzer', 'archive_findings', 'restore_findings')), -- what
    plan_id          TEXT, -- by which plan
    step             TEXT, -- by which of its steps
    account_id       TEXT NOT NULL CHECK (length(account_id) = 12), -- in which account
    region           TEXT NOT NULL, -- in which region
    analyzer_arn     TEXT, -- the analyzer, where it is known
    analyzer_name    TEXT NOT NULL, -- its name
    finding_ids      TEXT CHECK (json_valid(finding_ids)), -- the findings, where it is about findings
    reason           TEXT, -- why, in the words of who did it
    actor            TEXT NOT NULL, -- who: the identity that the role was assumed from
    started_at       TEXT NOT NULL, -- when it was asked of AWS
    finished_at      TEXT, -- when what came of it was known
    result           TEXT NOT NULL CHECK (result IN ('started', 'done', 'already', 'failed')), -- what came of it
    request_id       TEXT, -- AWS's id of the request
    error            TEXT, -- why it failed
    CHECK ((result = 'started') = (finished_at IS NULL))
) STRICT;

CREATE INDEX remediation_action_by_plan ON remediation_action (plan_id, step);

-- Everything that trustwatch changed in AWS, or tried to. One that is `started` and has no end is of a process that was killed: look at the next of the same step.
CREATE VIEW remediation_actions AS
SELECT
    remediation_action.action_id, -- its number
    organization.organization_id, -- AWS's id of the organization, or account:<id> for a standalone account
    organization.name AS organization_name, -- the configuration's name of the organization
    remediation_action.action, -- create_analyzer, delete_analyzer, archive_findings or restore_findings
    remediation_action.plan_id, -- by which plan
    remediation_action.step, -- by which of its steps
    remediation_action.account_id, -- in which account
    remediation_action.region, -- in which region
    remediation_action.analyzer_arn, -- the analyzer, where it is known
    remediation_action.analyzer_name, -- its name
    remediation_action.finding_ids, -- the findings, where it is about findings; a JSON array
    remediation_action.reason, -- why, in the words of who did it
    remediation_action.actor, -- who: the identity that the role was assumed from
    remediation_action.started_at, -- when it was asked of AWS
    remediation_action.finished_at, -- when what came of it was known
    remediation_action.result, -- started, done, already (it was there) or failed
    remediation_action.request_id, -- AWS's id of the request
    remediation_action.error -- why it failed
FROM remediation_action
JOIN organization USING (organization_key);
