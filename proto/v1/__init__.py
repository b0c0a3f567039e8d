"""Generated from `proto/pycompose/v1/*.proto` by `make proto`; never edited by hand."""
