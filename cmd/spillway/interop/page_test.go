package interop

// page tries what the node offers from within a browser, and reports what the
// browser saw.
const page = `<!doctype html><title>interop</title><script>
const hex = b => [...new Uint8Array(b)].map(x => x.toString(16).padStart(2, '0')).join('')
const sha = async b => hex(await crypto.subtle.digest('SHA-256', b))
const pattern = n => fetch('/bytes/' + n).then(r => r.arrayBuffer())
const cases = {
  small: async () => sha(await pattern(1024)),
  large: async () => sha(await pattern(1048576)),
  head: async () => (await fetch('/bytes/1024', {method: 'HEAD'})).headers.get('content-length'),
  echo: async () => {
    const r = await fetch('/echo', {method: 'POST', body: await pattern(1048576)})
    return sha(await r.arrayBuffer())
  },
  fields: async () => (await fetch('/fields', {headers: {'x-several': 'a, b'}})).headers.get('x-many'),
  odd: async () => (await fetch('ODD')).text(),
  gzip: async () => (await (await fetch('/gzip')).text()).length + '',
  conditional: async () => (await fetch('/bytes/1024', {headers: {'if-none-match': '"1024"'}})).status + '',
  range: async () => {
    const r = await fetch('/bytes/1048576', {headers: {range: 'bytes=1000-1999'}})
    return r.status + ' ' + await sha(await r.arrayBuffer())
  },
  events: () => new Promise((done, fail) => {
    const seen = [], source = new EventSource('/events')
    source.onmessage = e => { if (seen.push(e.data) == 5) { source.close(); done(seen.join()) } }
    source.onerror = () => { source.close(); fail('the stream broke') }
  }),
  socket: () => new Promise((done, fail) => {
    const s = new WebSocket('wss://' + location.host + '/socket', 'echo')
    s.onopen = () => s.send('hello')
    s.onmessage = e => { s.close(); done(s.protocol + ' ' + e.data) }
    s.onerror = () => fail('the socket broke')
  }),
}
async function main() {
  const seen = {}
  for (const [name, run] of Object.entries(cases))
    seen[name] = await Promise.race([
      run().catch(e => 'error: ' + e),
      new Promise(done => setTimeout(done, 15000, 'error: no end in sight'))])
  seen.protocols = [...new Set(performance.getEntriesByType('resource').map(e => e.nextHopProtocol))].sort().join()
  await fetch('/report', {method: 'POST', body: JSON.stringify(seen)})
}
main()
</script>`

// hitsPage fetches what the node has kept, all at once, and reports what the browser saw
// of each but for what time and chance change.
const hitsPage = `<!doctype html><title>hits</title><script>
const hex = b => [...new Uint8Array(b)].map(x => x.toString(16).padStart(2, '0')).join('')
const changing = ['date', 'age', 'x-request-id', 'alt-svc']
const lasting = ([name, value]) => changing.includes(name) ? name : name + ': ' + value.replace(/ttl=[0-9]+/, 'ttl')
const look = async path => {
  const r = await fetch(path)
  const sum = hex(await crypto.subtle.digest('SHA-256', await r.arrayBuffer()))
  return [path, [r.status, sum, ...[...r.headers].map(lasting).sort()].join('|')]
}
async function main() {
  const seen = Object.fromEntries(await Promise.all(PATHS.map(p => look(p).catch(e => [p, 'error: ' + e]))))
  seen.protocols = [...new Set(performance.getEntriesByType('resource').map(e => e.nextHopProtocol))].sort().join()
  await fetch('/report', {method: 'POST', body: JSON.stringify(seen)})
}
main()
</script>`

// drainPage asks for one thing after the other until it is told to stop: Chromium fails a
// request that it is about to send when it hears GOAWAY, so that of two at a time one may
// fail. Meanwhile something large is on its way, and something else after that. The page
// reports past the node, which has ended then.
const drainPage = `<!doctype html><title>drain</title><script>
const hex = b => [...new Uint8Array(b)].map(x => x.toString(16).padStart(2, '0')).join('')
const sha = async b => hex(await crypto.subtle.digest('SHA-256', b))
const at = '/drain/NAME/', want = WANT, seen = {asked: 0, failed: []}
const ask = async (thing, options, read) => {
  seen.asked++
  try {
    const r = await fetch(at + thing, options)
    const got = await read(r)
    if (r.status == 200) return got
    throw 'status ' + r.status
  } catch (e) { seen.failed.push(thing + ': ' + e) }
}
const take = async thing => {
  const got = await ask(thing, {}, async r => sha(await r.arrayBuffer()))
  if (got && got != want[thing]) seen.failed.push(thing + ': other bytes')
}
const echo = async said => {
  const heard = await ask('echo', {method: 'POST', body: said}, r => r.text())
  if (heard && heard != said) seen.failed.push('echo: ' + heard)
}
const turns = async things => {
  while (await ask('turn', {}, r => r.text()) == 'go on') {
    for (const thing of things) await take(thing)
    await echo('x'.repeat(2000) + seen.asked)
    await new Promise(done => setTimeout(done, 10))
  }
}
async function main() {
  performance.setResourceTimingBufferSize(1e6)
  const things = Object.keys(want).filter(thing => !thing.startsWith('held'))
  await Promise.all([take('held/first'), turns(things)])
  await take('held/second')
  seen.protocols = [...new Set(performance.getEntriesByType('resource').map(e => e.nextHopProtocol))].sort().join()
  await fetch('ORIGIN' + at + 'report', {method: 'POST', mode: 'no-cors', body: JSON.stringify(seen)})
}
main()
</script>`
