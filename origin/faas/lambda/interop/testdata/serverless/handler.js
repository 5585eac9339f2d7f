"use strict";

// The event as it arrived, for the test to compare.
exports.echo = async (event) => ({
  statusCode: 200,
  headers: { "content-type": "application/json" },
  body: JSON.stringify(event),
});

// The body that came, backwards, as bytes.
exports.binary = async (event) => ({
  statusCode: 201,
  headers: { "content-type": "application/octet-stream" },
  cookies: ["a=1; Path=/", "b=2; Expires=Wed, 21 Oct 2026 07:28:00 GMT"],
  body: Buffer.from(event.body, "base64").reverse().toString("base64"),
  isBase64Encoded: true,
});

exports.crash = async () => {
  throw new TypeError("broken on purpose");
};

exports.slow = () => new Promise((resolve) => setTimeout(resolve, 20000));

// Not an answer with a status, but the body of one.
exports.plain = async () => ({ hello: "world" });

// An answer as REST APIs take it.
exports.legacy = async (event) => ({
  statusCode: 200,
  headers: { "Content-Type": "text/plain", "X-Path": event.path },
  multiValueHeaders: { "Set-Cookie": ["a=1", "b=2"] },
  body: event.multiValueQueryStringParameters.q.join(" and "),
});
