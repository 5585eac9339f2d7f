// Package util should not be.
package util
