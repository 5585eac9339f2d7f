// An event loop: a tenth of the work before and after a wait that costs it nothing.
'use strict';
const http = require('node:http');

function compute(ms) {
	for (const end = performance.now() + ms; performance.now() < end;);
}

http.createServer((request, response) => {
	const ms = Number(new URL(request.url, 'http://localhost').searchParams.get('ms')) || 0;
	compute(ms / 2);
	setTimeout(() => {
		compute(ms / 2);
		response.end('done');
	}, 9 * ms);
}).listen(process.argv[2]);
