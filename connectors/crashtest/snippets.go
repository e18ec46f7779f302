package crashtest

import (
	"fmt"
	"strings"

	"github.com/hookyard/hookyard/connectors"
)

// steps start a scan, wait for its end and fetch the report. They need curl and jq, and a
// shell that may or may not end at the first failure. They end with an error when the scan
// did not start, when ten questions in a row were not answered with a status, and when
// there is no report: that an address is dead or refused must not hold a pipeline up.
// %[1]s is the address.
const steps = `SCAN_ID=$(curl --silent -X POST --data "" "%[1]s" | jq .data.scanId)
if ! [ "$SCAN_ID" -ge 0 ] 2> /dev/null; then
  echo "Could not start Scan for Webhook."
  exit 1
fi
echo "Started Scan. Scan ID is $SCAN_ID."

STATUS=100
UNANSWERED=0
while [ "$STATUS" -le 101 ]; do
  sleep 60
  STATUS=$(curl --silent --fail "%[1]s/scans/$SCAN_ID/status" | jq .data.status.status_code || true)
  if [ "$STATUS" -ge 0 ] 2> /dev/null; then
    UNANSWERED=0
    continue
  fi
  STATUS=101
  UNANSWERED=$((UNANSWERED + 1))
  if [ "$UNANSWERED" -ge 10 ]; then
    echo "The Scan's status cannot be read."
    exit 1
  fi
done
echo "Scan finished with status $STATUS."

if ! curl --silent --fail "%[1]s/scans/$SCAN_ID/report/junit" -o report.xml; then
  echo "The Scan's report cannot be fetched."
  exit 1
fi
`

// Snippets are ready to be copied into a pipeline. In those that are kept in a repository
// the address stands in a secret variable, CRASHTEST_WEBHOOK, for it is the credential.
func (Trigger) Snippets(url string) []connectors.Snippet {
	endpoint, webhook := url, ""
	if i := strings.LastIndexByte(url, '/'); i >= 0 {
		endpoint, webhook = url[:i], url[i+1:]
	}
	sh := fmt.Sprintf("#!/usr/bin/env sh\nAPI_ENDPOINT=\"%s\"\nWEBHOOK=\"%s\"\n\n", endpoint, webhook) + fmt.Sprintf(steps, "$API_ENDPOINT/$WEBHOOK")
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

// secretly says where the address belongs, and puts the steps into a pipeline in the place
// of its line "STEPS", indented as that is.
func secretly(url, variable, pipeline string) string {
	before, after, _ := strings.Cut(pipeline, "STEPS\n")
	indent := before[strings.LastIndexByte(before, '\n')+1:]
	run := strings.TrimSuffix(strings.ReplaceAll(fmt.Sprintf(steps, "$CRASHTEST_WEBHOOK"), "\n", "\n"+indent), indent)
	run = strings.ReplaceAll(run, "\n"+indent+"\n", "\n\n")
	return fmt.Sprintf("# Make CRASHTEST_WEBHOOK %s, and leave this line out of the repository: %s\n", variable, url) + before + run + after
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
            STEPS
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
          STEPS
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
      STEPS
  artifacts:
    reports:
      junit: report.xml
`
