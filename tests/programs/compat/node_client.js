// Posts bodies over four connections, each of which takes its next request when the one before was answered.
const http = require('http');
const crypto = require('crypto');

const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
const options = { host: '127.0.0.1', port: Number(process.argv[2]), method: 'POST', agent };

function post(body) {
  return new Promise((resolve, reject) => {
    const request = http.request(options, response => {
      const chunks = [];
      response.on('data', chunk => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        if (Buffer.concat(chunks).equals(body)) resolve();
        else reject(new Error(`the answer to ${body.length} bytes differs`));
      });
    });
    request.on('error', reject);
    request.end(body);
  });
}

async function main() {
  let verified = 0;
  const bodies = Array.from({ length: 400 }, (_, number) => crypto.randomBytes((number * 7919) % 300000));
  const work = async () => {
    while (bodies.length > 0) {
      await post(bodies.pop());
      verified += 1;
    }
  };
  await Promise.all([work(), work(), work(), work()]);
  console.log(`verified ${verified}`);
  agent.destroy();
}

main().catch(error => { console.error(error); process.exit(1); });
