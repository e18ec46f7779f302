package crashtest

import (
	"fmt"
	"strings"

	"github.com/hookyard/hookyard/connectors"
)

// script is the public shell script: it starts a scan, waits for its end and fetches the
// report. It needs curl and jq, and exits with 1 when the scan did not start.
const script = `#!/usr/bin/env sh
API_ENDPOINT="%[1]s"
WEBHOOK="%[2]s"

SCAN_ID=$(curl --silent -X POST --data "" "$API_ENDPOINT/$WEBHOOK" | jq .data.scanId)
if ! [ "$SCAN_ID" -ge 0 ] 2> /dev/null; then
  echo "Could not start Scan for Webhook."
  exit 1
fi
echo "Started Scan. Scan ID is $SCAN_ID."

STATUS=100
while [ "$STATUS" -le 101 ]; do
  sleep 60
  STATUS=$(curl --silent "$API_ENDPOINT/$WEBHOOK/scans/$SCAN_ID/status" | jq .data.status.status_code)
  [ "$STATUS" -ge 0 ] 2> /dev/null || STATUS=101
done
echo "Scan finished with status $STATUS."

curl --silent "$API_ENDPOINT/$WEBHOOK/scans/$SCAN_ID/report/junit" -o report.xml
`

// Snippets are ready to be copied into a pipeline. In those that are kept in a repository
// the address stands in a secret variable, CRASHTEST_WEBHOOK, for it is the credential.
func (Trigger) Snippets(url string) []connectors.Snippet {
	endpoint, webhook := url, ""
	if i := strings.LastIndexByte(url, '/'); i >= 0 {
		endpoint, webhook = url[:i], url[i+1:]
	}
	sh := fmt.Sprintf(script, endpoint, webhook)
	return []connectors.Snippet{
		{Name: "curl", Text: fmt.Sprintf("curl -X POST --data \"\" %s\n", url)},
		{Name: "Shell", Text: sh},
		{Name: "Heroku", Text: fmt.Sprintf("heroku addons:create deployhooks:http --url=%s\n", url)},
		{Name: "TeamCity", Text: "# Build step \"Command Line\"; publish report.xml with the feature \"XML report processing\" (JUnit).\n" + sh},
		{Name: "CircleCI", Text: secretly(url, "an environment variable of the project", circle)},
		{Name: "GitHub Actions", Text: secretly(url, "a secret of the repository", github)},
		{Name: "GitLab CI", Text: secretly(url, "a masked variable of the project", gitlab)},
	}
}

// secretly says where the address belongs.
func secretly(url, variable, pipeline string) string {
	return fmt.Sprintf("# Make CRASHTEST_WEBHOOK %s, and leave this line out of the repository: %s\n", variable, url) + pipeline
}

const circle = `jobs:
  security-scan:
    docker:
      - image: cimg/base:stable
    steps:
      - run:
          name: Security scan
          no_output_timeout: 4h
          command: |
            SCAN_ID=$(curl --silent -X POST --data "" "$CRASHTEST_WEBHOOK" | jq .data.scanId)
            [ "$SCAN_ID" -ge 0 ]
            STATUS=100
            while [ "$STATUS" -le 101 ]; do
              sleep 60
              STATUS=$(curl --silent "$CRASHTEST_WEBHOOK/scans/$SCAN_ID/status" | jq .data.status.status_code)
              [ "$STATUS" -ge 0 ] 2> /dev/null || STATUS=101
            done
            curl --silent "$CRASHTEST_WEBHOOK/scans/$SCAN_ID/report/junit" -o report.xml
      - store_test_results:
          path: report.xml
`

const github = `jobs:
  security-scan:
    runs-on: ubuntu-latest
    steps:
      - name: Security scan
        env:
          CRASHTEST_WEBHOOK: ${{ secrets.CRASHTEST_WEBHOOK }}
        run: |
          SCAN_ID=$(curl --silent -X POST --data "" "$CRASHTEST_WEBHOOK" | jq .data.scanId)
          [ "$SCAN_ID" -ge 0 ]
          STATUS=100
          while [ "$STATUS" -le 101 ]; do
            sleep 60
            STATUS=$(curl --silent "$CRASHTEST_WEBHOOK/scans/$SCAN_ID/status" | jq .data.status.status_code)
            [ "$STATUS" -ge 0 ] 2> /dev/null || STATUS=101
          done
          curl --silent "$CRASHTEST_WEBHOOK/scans/$SCAN_ID/report/junit" -o report.xml
      - uses: actions/upload-artifact@v4
        with:
          name: security-scan
          path: report.xml
`

const gitlab = `security-scan:
  image: alpine:latest
  before_script:
    - apk add --no-cache curl jq
  script:
    - |
      SCAN_ID=$(curl --silent -X POST --data "" "$CRASHTEST_WEBHOOK" | jq .data.scanId)
      [ "$SCAN_ID" -ge 0 ]
      STATUS=100
      while [ "$STATUS" -le 101 ]; do
        sleep 60
        STATUS=$(curl --silent "$CRASHTEST_WEBHOOK/scans/$SCAN_ID/status" | jq .data.status.status_code)
        [ "$STATUS" -ge 0 ] 2> /dev/null || STATUS=101
      done
      curl --silent "$CRASHTEST_WEBHOOK/scans/$SCAN_ID/report/junit" -o report.xml
  artifacts:
    reports:
      junit: report.xml
`
