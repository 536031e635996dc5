namespace FastDraft.Persistence.Audit;

/// <summary>
/// The databases themselves refuse to change a row of the audit. Whoever owns the database can drop a trigger, which the chain then
/// shows; a mistake of ours cannot. Set after each migration, and harmless to set again; a process that dies between the two leaves the
/// chain alone to watch over the rows.
/// </summary>
internal static class AuditTriggers
{
    public const string Sqlite = """
        CREATE TRIGGER IF NOT EXISTS audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'rows of the audit are never changed'); END;
        CREATE TRIGGER IF NOT EXISTS audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'rows of the audit are never changed'); END;
        """;

    public const string PostgreSql = """
        CREATE OR REPLACE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'rows of the audit are never changed'; END $$;
        CREATE OR REPLACE TRIGGER audit_no_update BEFORE UPDATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
        CREATE OR REPLACE TRIGGER audit_no_delete BEFORE DELETE OR TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
        """;
}
