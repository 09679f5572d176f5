// Preloaded into the suite's origin: it listens on loopback, below the path that the proxy serves.
// The origin goes by the first path segment, so the prefix is cut off what it is asked for and put back into what it
// tells of its own place.
import http from 'node:http'

const PREFIX = '/api/v1'
const { createServer } = http

http.createServer = handle => {
  const server = createServer((request, response) => {
    if (request.url.startsWith(PREFIX)) request.url = request.url.slice(PREFIX.length)
    const { setHeader } = response
    response.setHeader = function (name, value) {
      return setHeader.call(this, name, name.toLowerCase() === 'server-base-url' ? PREFIX + value : value)
    }
    return handle(request, response)
  })
  const { listen } = server
  server.listen = port => listen.call(server, port, '127.0.0.1')
  return server
}
