// Echoes the body of every request.
const http = require('http');
http.createServer((request, response) => request.pipe(response)).listen(Number(process.argv[2]), '127.0.0.1');
