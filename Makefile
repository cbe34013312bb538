# Everything one does with the project, each a small script in scripts/.
# PG=18 (the default) or PG=15 says which PostgreSQL; ARGS=… goes to the program that runs.

PG ?= 18
PG_CONFIG ?=
ARGS ?=
ONLY ?=
export PG

.DEFAULT_GOAL := help
.PHONY: help demo test up dsn psql down install install-pgmq bench bench-brokers

help: ## this list
	@echo 'make TARGET [PG=18|15]'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: ## set up, build, and show the outbox story; leaves its server up
	@scripts/demo $(ARGS)

test: ## set up and run every test on PostgreSQL 18 and 15 (ONLY="regress docs" for some)
	@scripts/test $(ONLY)

up: ## start the private server: extension preloaded, database mq
	@scripts/up $(PG)

dsn: ## print that server's connection URL (make -s dsn)
	@scripts/dsn $(PG)

psql: ## open psql on that server
	@scripts/psql $(PG) $(ARGS)

down: ## stop the private servers (one of them: PG=18 or PG=15), their data stay
	@scripts/down $(if $(filter file default,$(origin PG)),,$(PG))

install: ## install into any existing server: PG_CONFIG=/path/to/pg_config
	@scripts/install $(PG_CONFIG)

install-pgmq: ## install the drop-in for pgmq (PG=…, or PG_CONFIG=… beside an installed pg_broker)
	@scripts/install-pgmq $(or $(PG_CONFIG),$(PG))

bench: ## measure against pgmq and hand-written SQL; results go to bench/
	@scripts/bench $(ARGS)

bench-brokers: ## measure against RabbitMQ and NATS JetStream, which it installs and starts
	@scripts/bench-brokers $(ARGS)
