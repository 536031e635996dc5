# A worker that writes something for every output of a stage at once, so that the console has something to show without any training.
# Arguments: the folder with the reports and decisions to hand out, and the job.
read -r _
given=$1
job=$2
stage=$(sed -n 's/.*"Stage":"\([^"]*\)".*/\1/p' "$job")
now() { date +%s%3N; }
log() { echo "{\"type\":\"log\",\"level\":\"$1\",\"message\":\"$2\",\"at\":$(now)}"; }
count=$(cat "$given/count" 2>/dev/null || echo 0)

if grep -q flood "$job"; then
  # A thousand lines a second, each with the time when it was written, and ten points of a curve whose value is that time.
  i=0
  while [ ! -e "$given/stop" ]; do
    at=$(now)
    seq -f "{\"type\":\"log\",\"level\":\"Information\",\"message\":\"line %.0f written $at.\",\"at\":$at}" $((i * 100)) $((i * 100 + 99))
    i=$((i + 1))
    echo "{\"type\":\"metric\",\"name\":\"loss\",\"value\":$((at / 1000 % 100000)).$(printf %03d $((at % 1000))),\"step\":$i,\"at\":$at}"
    sleep 0.09
  done
fi

log Information "the stage begins"
case $stage in
  PretrainDraft | FinetuneDraft)
    for step in $(seq 1 40); do
      echo "{\"type\":\"metric\",\"name\":\"loss\",\"value\":$((9 - step / 8)).$((99 - step)),\"step\":$step,\"at\":$(now)}"
      echo "{\"type\":\"metric\",\"name\":\"acceptance\",\"value\":0.$((100 + step * 5)),\"step\":$step,\"at\":$(now)}"
    done
    echo "{\"type\":\"progress\",\"done\":40,\"total\":40,\"unit\":\"steps\",\"at\":$(now)}"
    log Warning "one document was longer than the model can read, and was cut"
    ;;
esac
echo "$(sed -n 's/.*"Outputs":{\([^}]*\)}.*/\1/p' "$job")" | tr ',' '\n' | sed -n 's/"\([^"]*\)":"\([^"]*\)"/\1 \2/p' | while read -r port folder; do
  mkdir -p "$folder"
  case $port in
    evaluation) cp "$given/report-$((count % 2)).json" "$folder/report.json"; cp "$given/report-$((count % 2)).html" "$folder/report.html" ;;
    promotion) cp "$given/decision-$((count % 2)).json" "$folder/decision.json" ;;
    *) sed 's/.*"Settings":\({[^}]*}\).*/\1/' "$job" >"$folder/made.json"; echo "$stage $port $count" >"$folder/note.txt" ;;
  esac
done
log Information "the stage ends"
