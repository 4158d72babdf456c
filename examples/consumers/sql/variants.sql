-- Every variant's command line, with how often it was seen: of alerts, and of what summaries report.
--
-- For SQLite, with one row a record in `records(id, kind, value)`: the headers ce_id and kind, and the value as text.
-- A variant's own `fields` come first, also where they hold a null; a field that is not there is the same for all
-- variants of the summary, and stands in its `output_fields`. Runs in our tests.
SELECT
  records.id,
  json_extract(records.value, '$.rule') AS rule,
  CASE
    WHEN json_type(variant.value, '$.fields."proc.cmdline"') IS NULL
      THEN json_extract(records.value, '$.output_fields."proc.cmdline"')
    ELSE json_extract(variant.value, '$.fields."proc.cmdline"')
  END AS command,
  json_extract(variant.value, '$.count') AS count,
  json_extract(variant.value, '$.new') AS is_new
FROM records, json_each(records.value, '$.summary.variants') AS variant
WHERE records.kind = 'summary'
UNION ALL
SELECT id, json_extract(value, '$.rule'), json_extract(value, '$.output_fields."proc.cmdline"'), 1, 1
FROM records
WHERE kind = 'alert'
