"""The script that an engineer writes in an afternoon, written well: what `make bench-scan` holds a scan against.

One session for each account, all enabled regions, ACTIVE analyzers of external access only, the organization's analyzers
applied to every member, 64 threads, errors kept as errors. The credentials and the endpoint come from the environment.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import boto3
import botocore.session
from botocore.config import Config
from botocore.loaders import Loader

THREADS = 64
ROLE = "TrustwatchAudit"
CONFIG = Config(retries={"mode": "standard", "max_attempts": 6}, max_pool_connections=10, user_agent_extra="rival")
# Service models are parsed once, not once for each session.
LOADER = Loader()


def session(**credentials):
    core = botocore.session.get_session()
    core.register_component("data_loader", LOADER)
    return boto3.Session(botocore_session=core, **credentials)


HOME = session()
STS = HOME.client("sts", region_name="us-east-1", config=Config(max_pool_connections=THREADS))
ORGANIZATIONS = HOME.client("organizations", region_name="us-east-1")
CALLER = STS.get_caller_identity()["Account"]


def enter(account):
    if account == CALLER:
        return HOME
    given = STS.assume_role(RoleArn=f"arn:aws:iam::{account}:role/{ROLE}", RoleSessionName="rival")["Credentials"]
    return session(
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["SessionToken"],
    )


def audit(account):
    rows = []
    try:
        entered = enter(account)
        regions = entered.client("account", region_name="us-east-1", config=CONFIG).list_regions(MaxResults=50)
    except Exception as error:  # An account that cannot be entered is an answer too.
        return [(account, None, f"error: {error}")]
    for region in regions["Regions"]:
        if region["RegionOptStatus"] == "DISABLED":
            continue
        name = region["RegionName"]
        try:
            client = entered.client("accessanalyzer", region_name=name, config=CONFIG)
            found = [one for page in client.get_paginator("list_analyzers").paginate() for one in page["analyzers"]]
            kinds = {one["type"] for one in found if one["status"] == "ACTIVE" and "managedBy" not in one}
            rows.append((account, name, kinds & {"ACCOUNT", "ORGANIZATION"}))
        except Exception as error:
            rows.append((account, name, f"error: {error}"))
    return rows


def main():
    begun = time.monotonic()
    accounts = [
        account["Id"]
        for page in ORGANIZATIONS.get_paginator("list_accounts").paginate()
        for account in page["Accounts"]
        if account.get("State", account.get("Status")) == "ACTIVE"
    ]
    with ThreadPoolExecutor(THREADS) as pool:
        rows = [row for account in pool.map(audit, accounts) for row in account]
    shared = {region for _, region, kinds in rows if "ORGANIZATION" in kinds and not isinstance(kinds, str)}
    covered = sum(1 for _, region, kinds in rows if not isinstance(kinds, str) and (kinds or region in shared))
    errors = sum(1 for *_, kinds in rows if isinstance(kinds, str))
    print(f"{len(rows)} rows, {covered} covered, {errors} errors, {time.monotonic() - begun:.1f} s", file=sys.stderr)


main()
