// Package interop holds the tests of the Lambda provider against serverless-offline,
// an emulation of Lambda that others have written, with functions in Node.js. They
// need npm's packages, and are part of make test-more.
package interop
