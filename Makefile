# Everything a newcomer types. `make` alone prints this list. Written for GNU make 3.81.

PORT    ?= 8000
STATE   ?= .state
WORKERS ?= 1
LAN     ?=
EDGE    ?= on
export PORT STATE WORKERS LAN EDGE

# Some machines have a python3.12 on PATH that only prints an error: a Python counts when it runs.
PY := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)

# Nothing is written outside the checkout: the caches of uv and pip live in .tools too.
export UV_CACHE_DIR := $(CURDIR)/.tools/cache
export UV_PYTHON_DOWNLOADS := never
# uv trusts the certificates that this machine trusts.
export UV_SYSTEM_CERTS := 1
export PIP_CACHE_DIR := $(CURDIR)/.tools/pip
export PIP_DISABLE_PIP_VERSION_CHECK := 1
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
PYTHON := .venv/bin/python
PINNED := -q --universal --generate-hashes --no-header

.PHONY: help up reload test browser-test messages lint bench soak lock clean

help:
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

up: .venv/.ok ## run the sale on real servers (PORT=8000 STATE=.state WORKERS=1 LAN=1 EDGE=off)
	@$(PYTHON) manage.py up

reload: ## let new code serve, without dropping a request (STATE=.state)
	@$(PYTHON) -m shop.local.reloading

test: .venv/.ok ## run the tests on servers of their own
	@$(PYTHON) -m pytest -n 2 --dist loadfile --ignore tests/stories --ignore tests/browser
	@$(PYTHON) -m pytest tests/stories

browser-test: .venv/.browser ## what people see, in a real Chromium; skipped where there is none
	@$(PYTHON) -m pytest -rs tests/browser

load: .venv/.ok ## a crowd, and a verdict (SHAPE=spike USERS=2000 SECONDS=60 SEED=1; HOST= for a shop that runs)
	@$(PYTHON) -m loadtests.load

drill: .venv/.ok ## break one thing after the other while people buy (NAME="redis-hang ..."; minutes)
	@$(PYTHON) -m loadtests.drills

bench: .venv/.ok ## measure, as ratios in one run, on servers of its own (ten minutes)
	@$(PYTHON) -m loadtests.bench

soak: .venv/.ok ## the invariants and faults again and again, for hours
	@EXAMPLES=10000 CRASH_ROUNDS=500 RACE_ROUNDS=1000 SOAK=1 SOAK_CALLS=1000000 \
		$(PYTHON) -m pytest tests/invariants tests/faults tests/resilience

lint: .venv/.ok ## format check, lint, types
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy shop inventory resilience

messages: .venv/.ok ## gather what the shop says into its catalogues, and compile them
	@$(PYTHON) -m tests.messages

lock: .tools/bin/uv ## pin every dependency again, with hashes
	@$(UV) pip compile $(PINNED) --group dev --group load pyproject.toml -o requirements.lock
	@$(UV) pip compile $(PINNED) --group browser -c requirements.lock -o tests/browser/requirements.lock

clean: ## remove everything that was downloaded or recorded
	@rm -rf .venv .tools $(STATE)

.tools/bin/uv:
	@$(PY) -m pip install -qq --target .tools uv 2>/dev/null || true

.venv/.ok: requirements.lock
	@test -n "$(PY)" || { echo "Python 3.11 or newer is needed: none was found on PATH." >&2; exit 2; }
	@test -x "$(UV)" || $(MAKE) -s .tools/bin/uv
	@rm -rf .venv
	@{ test -x "$(UV)" && $(UV) venv -q -p $(PY) .venv \
		&& $(UV) pip install -q --python $(PYTHON) --require-hashes -r $<; } \
	|| { echo "uv could not do it (it does not read pip's configuration); venv and pip try" >&2; \
		rm -rf .venv; $(PY) -m venv .venv && $(PYTHON) -m pip install -qq --require-hashes -r $<; }
	@touch $@

# Of its own, because playwright is large and has no wheel for some machines that run the shop.
.venv/.browser: tests/browser/requirements.lock .venv/.ok
	@{ test -x "$(UV)" && $(UV) pip install -q --python $(PYTHON) --require-hashes -r $<; } \
	|| $(PYTHON) -m pip install -qq --require-hashes -r $<
	@touch $@
