// node count.mjs SUITE_FOLDER < results: what became of each test, one JSON array, by the suite's own judgement.
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

const suite = pathToFileURL(resolve(process.argv[2]) + '/').href
const { default: areas } = await import(suite + 'tests/index.mjs')
const { determineTestResult, resultTypes } = await import(suite + 'test-engine/lib/results.mjs')

const names = new Map(Object.entries(resultTypes).map(([name, type]) => [type, name]))
const results = JSON.parse(readFileSync(0, 'utf8'))
const judged = areas.flatMap(area => area.tests.filter(test => !test.browser_only).map(test => ({
  id: test.id,
  area: area.id,
  kind: test.kind ?? 'required',
  result: names.get(determineTestResult(areas, test.id, results)),
  why: Array.isArray(results[test.id]) ? results[test.id][1] : ''
})))
console.log(JSON.stringify(judged))
