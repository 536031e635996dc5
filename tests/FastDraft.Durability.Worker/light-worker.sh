# A worker that costs next to nothing, so that what is measured is the hosts: Make and Copy of FakeStages.cs in a shell.
read -r _
job=$1
part() { sed -n "s/.*\"$1\":{\"[a-z]*\":\"\([^\"]*\)\".*/\1/p" "$job"; }
value() { sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p" "$job"; }
out=$(part Outputs)
mkdir -p "$out"
echo '{"type":"log","level":"Information","message":"light"}'
case $(value Stage) in
  Make) value number >"$out/n.txt" ;;
  *) { cat "$(part Inputs)/n.txt"; value suffix; } >"$out/n.txt" ;;
esac
