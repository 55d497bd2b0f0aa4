"""Reads a report back with parsers that were not written for it, and prints how many rows it has, by status.

usage: validate.py FORMAT FILE
"""

import collections
import csv
import gzip
import html.parser
import json
import pathlib
import sys


def of_csv(file):
    with open(file, encoding="utf-8", newline="") as text:
        for row in csv.DictReader(text, strict=True):
            assert None not in row and None not in row.values(), row
            yield row["status"], row["exempt"] == "1"


def of_prowler(file):
    words = {"PASS": "covered", "FAIL": "not_covered", "MANUAL": "unknown"}
    with open(file, encoding="utf-8", newline="") as text:
        for row in csv.DictReader(text, delimiter=";", strict=True):
            assert None not in row and None not in row.values(), row
            yield words[row["STATUS"]], row["MUTED"] == "True"


def of_json(file):
    for row in json.load(open(file, encoding="utf-8")):
        assert row["controls"]["Trend Micro Conformity"] == "IAM-065"
        yield row["status"], row["exempt"]


def of_ndjson(file):
    for line in open(file, encoding="utf-8"):
        row = json.loads(line)
        yield row["status"], row["exempt"]


def of_ocsf(file):
    import pydantic
    from py_ocsf_models.events.findings.compliance_finding import ComplianceFinding
    from py_ocsf_models.objects.cloud import Cloud

    # The class has `cloud` by the profile of that name (OCSF 1.5.0, "Compliance Finding", profiles); the library leaves profiles out.
    class Finding(ComplianceFinding):
        cloud: Cloud

    refuse_unknown(Finding)
    words = {1: "covered", 2: "unknown", 3: "not_covered", 99: "not_applicable"}
    model = pydantic.TypeAdapter(Finding)
    for finding in json.load(open(file, encoding="utf-8")):
        read = model.validate_python(finding)
        assert read.class_uid == 2003 and read.type_uid == 200301 and read.metadata.version == "1.5.0"
        yield words[int(read.compliance.status_id)], int(read.status_id) == 3


def refuse_unknown(model, seen=None):
    """Makes a model, and all that it is made of, refuse fields that it does not know."""
    import typing

    import pydantic

    seen = set() if seen is None else seen
    if model in seen:
        return
    seen.add(model)
    model.model_config["extra"] = "forbid"

    def within(kind):
        for part in typing.get_args(kind):
            yield from within(part)
        if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
            yield kind

    for field in model.model_fields.values():
        for part in within(field.annotation):
            refuse_unknown(part, seen)
    if len(seen) > 0:
        model.model_rebuild(force=True)


# AWS Security Hub User Guide, "Required top-level ASFF attributes" and "Optional top-level ASFF attributes"; the service's API
# reference. botocore checks types and required members only.
LENGTHS = {
    ("Id",): 512,
    ("ProductArn",): 2048,
    ("GeneratorId",): 512,
    ("AwsAccountId",): 12,
    ("Title",): 256,
    ("Description",): 1024,
    ("Remediation", "Recommendation", "Text"): 512,
    ("Remediation", "Recommendation", "Url"): 2048,
}
WORDS = {
    ("Severity", "Label"): {"INFORMATIONAL", "LOW", "MEDIUM", "HIGH", "CRITICAL"},
    ("Compliance", "Status"): {"PASSED", "WARNING", "FAILED", "NOT_AVAILABLE"},
    ("Workflow", "Status"): {"NEW", "NOTIFIED", "RESOLVED", "SUPPRESSED"},
    ("RecordState",): {"ACTIVE", "ARCHIVED"},
    ("SchemaVersion",): {"2018-10-08"},
}


def at(finding, path):
    for step in path:
        finding = finding[step]
    return finding


def of_asff(file):
    import botocore
    import botocore.model
    import botocore.validate

    folder = pathlib.Path(botocore.__file__).parent / "data/securityhub"
    (service,) = folder.glob("*/service-2.json*")
    opened = gzip.open if service.suffix == ".gz" else open
    shapes = json.load(opened(service, "rt", encoding="utf-8"))
    operation = botocore.model.ServiceModel(shapes).operation_model("BatchImportFindings")
    known = operation.input_shape.members["Findings"].member.members
    words = {"PASSED": "covered", "FAILED": "not_covered", "WARNING": "unknown", "NOT_AVAILABLE": "not_applicable"}
    for finding in json.load(open(file, encoding="utf-8")):
        report = botocore.validate.ParamValidator().validate({"Findings": [finding]}, operation.input_shape)
        assert not report.has_errors(), report.generate_report()
        assert not set(finding) - set(known), set(finding) - set(known)
        for path, most in LENGTHS.items():
            assert 0 < len(at(finding, path)) <= most, (path, at(finding, path))
        for path, allowed in WORDS.items():
            assert at(finding, path) in allowed, (path, at(finding, path))
        requirements = finding["Compliance"]["RelatedRequirements"]
        assert len(requirements) <= 32 and all(0 < len(one) <= 64 for one in requirements), requirements
        fields = finding["ProductFields"]
        assert len(fields) <= 50 and all(len(key) <= 128 and len(value) <= 2048 for key, value in fields.items()), fields
        assert len(finding["Types"]) <= 50 and len(finding["Resources"]) <= 32
        # One finding is at most 240 KB.
        assert len(json.dumps(finding).encode()) <= 240 * 1024
        yield words[finding["Compliance"]["Status"]], finding["Workflow"]["Status"] == "SUPPRESSED"


def of_junit(file):
    import junitparser

    for suite in junitparser.JUnitXml.fromfile(file):
        counted = collections.Counter()
        for case in suite:
            (result,) = case.result or [None]
            word = {None: "covered", "failure": "not_covered", "error": "unknown", "skipped": "skipped"}
            kind = None if result is None else result._tag
            counted[kind] += 1
            yield word[kind], False
        assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (
            sum(counted.values()),
            counted["failure"],
            counted["error"],
            counted["skipped"],
        )


class Page(html.parser.HTMLParser):
    """Counts the cells of the matrix, and refuses whatever comes from elsewhere."""

    def __init__(self):
        super().__init__()
        self.cells = []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        assert tag not in ("script", "link", "img", "iframe", "object", "base", "form"), tag
        assert not {"src", "href", "onload", "onclick", "action"} & set(attributes), attributes
        classes = (attributes.get("class") or "").split()
        words = {"c": "covered", "n": "not_covered", "u": "unknown", "x": "not_applicable"}
        if tag == "td" and classes and classes[0] in words:
            self.cells.append((words[classes[0]], "e" in classes))


def of_html(file):
    page = Page()
    text = open(file, encoding="utf-8").read()
    assert "url(" not in text and "@import" not in text
    page.feed(text)
    page.close()
    return page.cells


def main(kind, file):
    read = {
        "csv": of_csv,
        "json": of_json,
        "ndjson": of_ndjson,
        "ocsf": of_ocsf,
        "asff": of_asff,
        "junit": of_junit,
        "html": of_html,
        "prowler-csv": of_prowler,
    }[kind]
    statuses, exempt = collections.Counter(), 0
    for status, is_exempt in read(file):
        statuses[status] += 1
        exempt += bool(is_exempt)
    print(json.dumps({"statuses": dict(sorted(statuses.items())), "exempt": exempt}))


main(*sys.argv[1:])
