"""Makes the dashboards beside it: they are code, and the JSON that Grafana reads is made of it.

usage: make.py [--check]

With --check nothing is written, and the exit code says whether the files are what would be written.
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
POSTGRES = {"type": "grafana-postgresql-datasource", "uid": "trustwatch-postgres"}
PROMETHEUS = {"type": "prometheus", "uid": "trustwatch-prometheus"}

# Okabe and Ito's colours: colour-blind people can tell them apart.
GREEN, RED, YELLOW, GREY = "#009E73", "#D55E00", "#F0E442", "#999999"

# What the variables choose.
ORGANIZATION = "organization_name IN (${organization:sqlstring})"
REGION = "region IN (${region:sqlstring})"
OU = "coalesce(ou_path, '') IN (${ou:sqlstring})"
PLACE = f"{ORGANIZATION} AND {OU} AND {REGION}"

WHOLE_SCANS = f"{ORGANIZATION} AND whole AND $__timeFilter(finished_at)"
NEWEST = "scan_id IN (SELECT max(scan_id) FROM scan_summary WHERE whole GROUP BY organization_id)"

FIGURE = {"colorMode": "value", "graphMode": "none", "textMode": "auto",
          "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}
TREND = dict(FIGURE, graphMode="area")
STATUSES = {
    "mappings": [{"type": "value", "options": {
        "covered": {"color": GREEN, "text": "covered", "index": 0},
        "not_covered": {"color": RED, "text": "gap", "index": 1},
        "unknown": {"color": YELLOW, "text": "unknown", "index": 2},
        "not_applicable": {"color": GREY, "text": "–", "index": 3},
    }}],
    "custom": {"cellOptions": {"type": "color-background", "mode": "basic"}, "width": 110},
}
MATRIX = [{"id": "groupingToMatrix",
           "options": {"columnField": "region", "rowField": "account", "valueField": "status"}}]


def steps(*pairs):
    """Colours from values on."""
    return {"thresholds": {"mode": "absolute", "steps": [{"color": color, "value": value} for color, value in pairs]}}


def panel(kind, title, at, target, description="", unit=None, defaults=None, options=None, transformations=None):
    """A panel at (x, y, width, height)."""
    x, y, width, height = at
    made = {
        "type": kind, "title": title, "description": description,
        "gridPos": {"x": x, "y": y, "w": width, "h": height},
        "datasource": target["datasource"], "targets": [target],
        "fieldConfig": {"defaults": dict({"unit": unit} if unit else {}, **(defaults or {})), "overrides": []},
        "options": options or {},
    }
    return dict(made, transformations=transformations) if transformations else made


def sql(text, over_time=False):
    """What a query of the views answers; over time: columns `time`, `metric` if there are several lines, and `value`."""
    form = "time_series" if over_time else "table"
    return {"refId": "A", "datasource": POSTGRES, "format": form, "rawQuery": True, "editorMode": "code", "rawSql": text}


def metric(expression, legend):
    """What Prometheus answers."""
    return {"refId": "A", "datasource": PROMETHEUS, "expr": expression, "legendFormat": legend, "range": True}


def row(title, y):
    return {"type": "row", "title": title, "collapsed": False, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}, "panels": []}


def variable(name, label, query):
    return {"name": name, "label": label, "type": "query", "datasource": POSTGRES, "query": query, "definition": query,
            "multi": True, "includeAll": True, "refresh": 2, "sort": 1,
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]}}


def dashboard(uid, title, description, panels, variables, since):
    numbered = [dict(one, id=number) for number, one in enumerate(panels, 1)]
    return {
        "uid": uid, "title": title, "description": description, "tags": ["trustwatch"], "timezone": "utc",
        "schemaVersion": 39, "editable": False, "refresh": "5m", "time": {"from": since, "to": "now"},
        "templating": {"list": variables}, "panels": numbered, "annotations": {"list": []},
        "links": [{"title": "trustwatch", "type": "dashboards", "tags": ["trustwatch"], "asDropdown": True,
                   "includeVars": False, "keepTime": False}],
    }


def whole_scans(column, name):
    return sql(f"SELECT finished_at AS time, {column} AS {name} FROM scan_summary WHERE {WHOLE_SCANS} ORDER BY finished_at", True)


def by(view, column, condition):
    return sql(f"""SELECT coalesce({column}, 'not known') AS {column}, coverage_ratio_last_known AS coverage, measured_ratio AS measured
FROM {view} WHERE {ORGANIZATION} AND {condition} AND {NEWEST} ORDER BY 2, 1""")


COVERAGE = [
    panel("stat", "Coverage", (0, 0, 6, 5), whole_scans("coverage_ratio_last_known", "coverage"),
          "covered / (covered + not covered), each unknown counted by its last known answer: it does not jump because an account "
          "could not be read", "percentunit", steps((RED, None), (YELLOW, 0.95), (GREEN, 1)), TREND),
    panel("stat", "Measured", (6, 0, 6, 5), whole_scans("measured_ratio", "measured"),
          "How much of it could be read: can the number beside this be believed?", "percentunit",
          steps((RED, None), (YELLOW, 0.98), (GREEN, 1)), TREND),
    panel("stat", "Gaps", (12, 0, 6, 5), sql(f"""SELECT count(*) FILTER (WHERE NOT exempt) AS "to close", count(*) FILTER (WHERE exempt) AS exempt
FROM current_coverage WHERE status = 'not_covered' AND {PLACE}"""),
          "Account × regions that are not covered now", None, steps((GREEN, None), (RED, 1)), FIGURE),
    panel("stat", "Could not be read", (18, 0, 6, 5), sql(f"""SELECT count(*) AS "account × regions", count(DISTINCT account_id) AS accounts
FROM current_coverage WHERE status = 'unknown' AND {PLACE}"""),
          "Neither covered nor a gap", None, steps((GREEN, None), (YELLOW, 1)), FIGURE),
    panel("timeseries", "Coverage over time", (0, 5, 24, 8), sql(f"""SELECT finished_at AS time, organization_name || ' coverage' AS metric, coverage_ratio_last_known AS value
FROM scan_summary WHERE {WHOLE_SCANS}
UNION ALL
SELECT finished_at, organization_name || ' measured', measured_ratio FROM scan_summary WHERE {WHOLE_SCANS} ORDER BY 1""", True),
          "Look at both: a coverage of 100 % of the half that could be read is no coverage", "percentunit", {"max": 1}),
    panel("barchart", "By OU", (0, 13, 12, 9), by("coverage_by_ou", "ou_path", OU), unit="percentunit", defaults={"max": 1},
          options={"orientation": "horizontal", "xField": "ou_path"}),
    panel("barchart", "By region", (12, 13, 12, 9), by("coverage_by_region", "region", REGION), unit="percentunit",
          defaults={"max": 1}, options={"orientation": "horizontal", "xField": "region"}),
    panel("table", "Matrix", (0, 22, 24, 14), sql(f"""SELECT account_name || ' ' || account_id AS account, region, status
FROM current_coverage WHERE {PLACE} ORDER BY 1, 2"""), "Each account and region now", None, STATUSES,
          {"cellHeight": "sm", "showHeader": True}, MATRIX),
    panel("table", "What changed", (0, 36, 14, 10), sql(f"""SELECT at, account_id, region, from_status, to_status, to_reason, cause, analyzer_arn
FROM coverage_changes WHERE {ORGANIZATION} AND {REGION} AND $__timeFilter(at) ORDER BY at DESC LIMIT 1000"""),
          "From one known answer to the next. Cause world: something happened in AWS; configuration: something else is asked for now"),
    panel("barchart", "Age of gaps", (14, 36, 10, 10), sql(f"""SELECT CASE WHEN uncovered_since > now() - interval '1 day' THEN '1: today'
            WHEN uncovered_since > now() - interval '7 days' THEN '2: this week'
            WHEN uncovered_since > now() - interval '30 days' THEN '3: this month'
            WHEN uncovered_since > now() - interval '90 days' THEN '4: this quarter'
            ELSE '5: longer' END AS age, count(*) AS gaps
FROM current_coverage WHERE status = 'not_covered' AND NOT exempt AND {PLACE} GROUP BY 1 ORDER BY 1"""), options={"xField": "age"}),
    panel("table", "Unreadable accounts", (0, 46, 14, 9), sql(f"""SELECT account_id, account_name, reason, count(*) AS regions, min(since) AS since, max(last_known_at) AS last_known
FROM current_coverage WHERE status = 'unknown' AND {PLACE} GROUP BY account_id, account_name, reason ORDER BY 4 DESC, 1"""),
          "The reason says whom to ask; account_visits says what AWS answered"),
    panel("table", "Exemptions", (14, 46, 10, 9), sql(f"""SELECT owner, reason, ticket, expires_at, not_covered, unknown
FROM current_exemptions WHERE {ORGANIZATION} ORDER BY expires_at""")),
    row("Findings", 55),
    panel("timeseries", "Active findings", (0, 56, 12, 9), sql(f"""SELECT at AS time, type AS metric, sum(active) AS value
FROM findings_by_scan WHERE {ORGANIZATION} AND {REGION} AND $__timeFilter(at) GROUP BY at, type ORDER BY at""", True),
          "By type of analyzer. Archived and resolved ones are not active"),
    panel("table", "Findings by type of resource", (12, 56, 12, 9), sql(f"""SELECT kind.key AS type, sum((kind.value ->> 'public')::bigint) AS public,
       sum((kind.value ->> 'cross_account')::bigint) AS cross_account, sum((kind.value ->> 'active')::bigint) AS other
FROM current_findings_statistics CROSS JOIN LATERAL jsonb_each(by_type) AS kind
WHERE {ORGANIZATION} AND {REGION} GROUP BY 1 ORDER BY 2 DESC NULLS LAST, 3 DESC NULLS LAST, 4 DESC NULLS LAST"""), "Active ones"),
    panel("table", "Newest findings", (0, 65, 24, 9), sql(f"""SELECT since, resource_type, resource, resource_account_name, region, is_public, principal, action, read_at
FROM current_findings WHERE status = 'ACTIVE' AND {ORGANIZATION} AND {REGION} ORDER BY since DESC LIMIT 200"""),
          "Where findings are read one by one (findings.detail)"),
    panel("table", "Analyzers that could go", (0, 74, 12, 8), sql(f"""SELECT why, type, owner_account_id, region, billed, analyzer_arn
FROM redundant_analyzers WHERE {ORGANIZATION} ORDER BY billed DESC, why, region""")),
    panel("table", "Archive rules that are not the same everywhere", (12, 74, 12, 8), sql(f"""SELECT rule_name, owner_account_id, region, drift
FROM archive_rule_drift WHERE {ORGANIZATION} ORDER BY 1, 2, 3""")),
    row("Scans", 82),
    panel("timeseries", "How long scans take", (0, 83, 12, 8), sql(f"""SELECT finished_at AS time, organization_name AS metric, duration_seconds AS value
FROM scan_summary WHERE {ORGANIZATION} AND scope = 'all' AND $__timeFilter(finished_at) ORDER BY finished_at""", True), unit="s"),
    panel("timeseries", "Calls to AWS", (12, 83, 12, 8), sql(f"""SELECT s.finished_at AS time, c.operation AS metric, sum(c.calls) AS value
FROM scan_calls AS c JOIN scan_summary AS s USING (scan_id)
WHERE s.{ORGANIZATION} AND $__timeFilter(s.finished_at) GROUP BY s.finished_at, c.operation ORDER BY 1""", True)),
    panel("table", "Newest scans", (0, 91, 24, 8), sql(f"""SELECT scan_id, organization_name, trigger, scope, state, started_at, duration_seconds, accounts,
       accounts_unreachable, coverage_ratio, measured_ratio, bound_by, error
FROM scan_summary WHERE {ORGANIZATION} ORDER BY scan_id DESC LIMIT 50""")),
]

VARIABLES = [
    variable("organization", "Organization", "SELECT DISTINCT organization_name FROM scan_summary ORDER BY 1"),
    variable("ou", "OU", f"SELECT DISTINCT coalesce(ou_path, '') FROM current_coverage WHERE {ORGANIZATION} ORDER BY 1"),
    variable("region", "Region", f"SELECT DISTINCT region FROM current_coverage WHERE {ORGANIZATION} ORDER BY 1"),
]

SERVICE = [
    panel("stat", "Database", (0, 0, 4, 4), metric("min(trustwatch_database_up)", "up"), "", None, steps((RED, None), (GREEN, 1)), FIGURE),
    panel("stat", "Overdue", (4, 0, 4, 4), metric("max(trustwatch_scan_overdue)", "overdue"),
          "1 where a scan that should have been completed was not", None, steps((GREEN, None), (RED, 1)), FIGURE),
    panel("stat", "Replicas at work", (8, 0, 4, 4), metric("max(trustwatch_replicas)", "replicas"), options=FIGURE),
    panel("stat", "Since the newest completed scan", (12, 0, 6, 4),
          metric("time() - max by (organization) (trustwatch_last_scan_completed_timestamp_seconds)", "{{organization}}"), unit="s",
          options=FIGURE),
    panel("stat", "Accounts left", (18, 0, 6, 4), metric("max by (organization) (trustwatch_accounts_left)", "{{organization}}"),
          "Of the scan at work", options=FIGURE),
    panel("timeseries", "Coverage", (0, 4, 12, 8),
          metric("max by (organization) (trustwatch_coverage_last_known_ratio)", "{{organization}}"), unit="percentunit"),
    panel("timeseries", "Measured", (12, 4, 12, 8),
          metric("max by (organization) (trustwatch_measured_ratio)", "{{organization}}"), unit="percentunit"),
    panel("timeseries", "Scans", (0, 12, 8, 8), metric("sum by (state) (increase(trustwatch_scans_total[1d]))", "{{state}}"), "Ended in a day"),
    panel("timeseries", "How long scans take", (8, 12, 8, 8),
          metric("max by (organization) (trustwatch_last_scan_duration_seconds)", "{{organization}}"), unit="s"),
    panel("timeseries", "Visits in flight", (16, 12, 8, 8), metric("sum by (instance) (trustwatch_visits_in_flight)", "{{instance}}")),
    panel("timeseries", "Calls to AWS", (0, 20, 12, 8),
          metric("sum by (operation) (rate(trustwatch_aws_calls_total[5m]))", "{{operation}}"), unit="reqps"),
    panel("timeseries", "Calls that failed, by outcome", (12, 20, 12, 8),
          metric('sum by (outcome) (rate(trustwatch_aws_calls_total{outcome!="ok"}[5m]))', "{{outcome}}"),
          "Throttled ones are made again", "reqps"),
    panel("timeseries", "The store, 95th percentile", (0, 28, 12, 8),
          metric("histogram_quantile(0.95, sum by (le, verb) (rate(trustwatch_store_seconds_bucket[5m])))", "{{verb}}"), unit="s"),
    panel("timeseries", "Claims lost", (12, 28, 6, 8), metric("sum(increase(trustwatch_claims_lost_total[1h]))", "claims in an hour"),
          "Where a process was taken for dead, and others went on with its accounts"),
    panel("timeseries", "Outages of the database", (18, 28, 6, 8),
          metric("sum(increase(trustwatch_database_outages_total[1h]))", "outages in an hour")),
]

DASHBOARDS = {
    "coverage": dashboard("trustwatch-coverage", "trustwatch: coverage",
                          "Is every account of the organization watched for external access, in every region?", COVERAGE, VARIABLES, "now-1y"),
    "service": dashboard("trustwatch-service", "trustwatch: the service", "Does trustwatch itself do its work?", SERVICE, [], "now-7d"),
}


def main(arguments):
    for name, made in DASHBOARDS.items():
        file = HERE / "dashboards" / f"{name}.json"
        text = json.dumps(made, ensure_ascii=False, indent=1) + "\n"
        if arguments == ["--check"]:
            if file.read_text(encoding="utf-8") != text:
                sys.exit(f"{file} is not what make.py makes: run it")
        else:
            file.write_text(text, encoding="utf-8")


main(sys.argv[1:])
