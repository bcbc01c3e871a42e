//go:build tools

// Package qbft names the program that `make test-qbft` builds, so that go.mod and go.sum pin it.
package qbft

import _ "github.com/ethereum/go-ethereum/cmd/geth"
