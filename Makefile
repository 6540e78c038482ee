# `make` alone prints the targets.
.DEFAULT_GOAL := help
.PHONY: help run build test check lint bench pictures clean

BUF := npx --yes @bufbuild/buf@1.75.0

help: ## print the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## everything in one process, with sample people; mails go into usher-data/mail
	cargo build --package usher
	./target/debug/usher up --demo deploy/samples/users.csv

build: ## all programs and tests, for development, in one go: what tests need of libraries is built into both
	cargo build --workspace --bins --tests

test: build ## every test, with throwaway PostgreSQL, RabbitMQ and mail servers that it starts and stops itself
	cargo test --workspace

check: ## formatting, lints, documentation
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- --deny warnings
	RUSTDOCFLAGS="--deny warnings --allow rustdoc::private_intra_doc_links" cargo doc --workspace --no-deps --document-private-items

lint: ## the API's definitions (needs Node.js)
	cd proto && $(BUF) lint

bench: ## ours beside the floor below it: PostgreSQL, tonic, lapin, SMTP (takes a release build)
	cargo build --release --workspace --bins
	./target/release/usher-bench

pictures: ## of the mails, for their README (needs Chromium and cwebp)
	./services/identity/content/templates/pictures.sh

clean: ## what builds and trials left
	cargo clean
	rm -rf usher-data
