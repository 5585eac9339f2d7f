// Package tests is for tests.
package tests
