// An S3 service that is not ours: s3rver behind a door that checks every signature with aws4, an
// independent signer, and every payload against its digest; s3rver itself does neither. The door also
// knows If-None-Match on writes. Prints its port; data in the folder given.
//   node server.mjs FOLDER
import { createHash } from 'node:crypto'
import http from 'node:http'
import aws4 from 'aws4'
import S3rver from 's3rver'

const KEY = { accessKeyId: 'S3RVER', secretAccessKey: 'S3RVER' }
const inner = await new S3rver({
  directory: process.argv[2], address: '127.0.0.1', port: 0, silent: true, vhostBuckets: false,
  configureBuckets: [{ name: 'pawl-bucket' }],
}).run()

function refuse(res, status, code) {
  res.writeHead(status, { 'Content-Type': 'application/xml' })
  res.end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>the door says no</Message></Error>`)
}

function wrong(req, body) {
  const given = req.headers.authorization ?? ''
  const names = /SignedHeaders=([^,]*)/.exec(given)?.[1].split(';') ?? []
  for (const must of ['host', 'x-amz-date', 'x-amz-content-sha256'])
    if (!names.includes(must)) return 'AccessDenied'
  const headers = Object.fromEntries(names.map((n) => [n, req.headers[n]]))
  const again = aws4.sign({ method: req.method, path: req.url, service: 's3', region: 'us-east-1', headers,
    extraHeadersToInclude: Object.fromEntries(names.map((n) => [n, true])) }, KEY)
  const want = (again.headers.Authorization ?? '').replace(/, /g, ',')
  if (want !== given.replace(/, /g, ',')) return 'SignatureDoesNotMatch'
  const hash = createHash('sha256').update(body).digest('hex')
  return hash === req.headers['x-amz-content-sha256'] ? null : 'XAmzContentSHA256Mismatch'
}

const pass = (method, url, headers, body) => new Promise((resolve, reject) => {
  const out = http.request({ ...inner, host: '127.0.0.1', port: inner.port, method, path: url, headers }, resolve)
  out.on('error', reject)
  out.end(body)
})

http.createServer(async (req, res) => {
  const chunks = []
  for await (const c of req) chunks.push(c)
  const body = Buffer.concat(chunks)
  const code = wrong(req, body)
  if (code) return refuse(res, 403, code)
  if (req.headers['if-none-match'] && (req.method === 'PUT' || req.method === 'POST')) {
    const there = await pass('HEAD', req.url.split('?')[0], { host: req.headers.host })
    there.resume()
    if (there.statusCode === 200) return refuse(res, 412, 'PreconditionFailed')
  }
  const answer = await pass(req.method, req.url, req.headers, body)
  res.writeHead(answer.statusCode, answer.headers)
  answer.pipe(res)
}).listen(0, '127.0.0.1', function () { console.log(`port ${this.address().port}`) })
