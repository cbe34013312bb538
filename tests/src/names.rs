//! Names are names and content is content, whatever is in them.

use crate::harness::Cx;
use crate::planted::whole_life;
use crate::tests;

tests![hostile_names, name_lengths, hostile_content];

const NAMES: &[&str] = &[
    "a\"b",
    "a'b",
    "a.b",
    "a b",
    " ",
    "a;DROP TABLE x;--",
    "ünïcödé",
    "\\",
    "a\\'b",
    "%s%n",
    "$1",
    "$$",
    "{}",
    "Orders",
    "ORDERS",
    "orders",
    "null",
    "select",
    "public",
    "q\tq",
    "q\nq",
    "📬",
    "--",
    "/*",
    "\"",
    "'",
    "\"\"",
    "[0]",
    "*",
    "orders.dead",
    "Ω≈ç√",
    "e\u{301}",
    "é",
    "\u{200b}",
];

async fn hostile_names(cx: Cx) {
    let admin = cx.connect().await;
    let mut made = 0;
    for name in NAMES {
        let literal = name.replace('\'', "''").replace('\\', "\\\\");
        let literal = format!("E'{literal}'");
        let role = format!("{}_{}", cx.db, name.replace(['\n', '\t'], " "));
        let quoted = role.replace('"', "\"\"");
        admin.run(&format!("CREATE ROLE \"{quoted}\"; GRANT EXECUTE ON FUNCTION mq.create_queue TO \"{quoted}\"")).await;
        admin.run(&format!("SET ROLE \"{quoted}\"")).await;
        admin
            .run(&format!(
                "SELECT mq.create_queue({literal}, max_failures => 2, notify => true)"
            ))
            .await;
        admin.run("SET standard_conforming_strings = on").await;
        whole_life(&admin, name).await;
        admin.run(&format!("SELECT mq.send({literal}, '1')")).await;
        assert_eq!(
            admin
                .text("SELECT queue FROM mq.queues WHERE queue NOT LIKE '%\\_dead'")
                .await,
            *name
        );
        admin
            .run(&format!(
                "SELECT mq.rename_queue({literal}, {literal} || '2')"
            ))
            .await;
        let row = format!("SELECT ready FROM mq.metrics WHERE queue = {literal} || '2'");
        assert_eq!(admin.int(&row).await, 1, "{name:?}");
        assert_eq!(
            admin
                .text(&format!("SELECT queue FROM mq.read({literal} || '2')"))
                .await,
            format!("{name}2")
        );
        admin.run("RESET ROLE").await;
        made += 1;
        if made % 2 == 0 {
            admin
                .run(&format!(
                    "DROP OWNED BY \"{quoted}\"; DROP ROLE \"{quoted}\""
                ))
                .await;
        } else {
            admin
                .run(&format!("SELECT mq.drop_queue({literal} || '2')"))
                .await;
        }
        let left = format!("SELECT count(*) FROM mq.queues WHERE queue = {literal} || '2'");
        assert_eq!(admin.int(&left).await, 0, "{name:?}");
    }
}

async fn name_lengths(cx: Cx) {
    let c = cx.connect().await;
    for fits in [
        "x".repeat(48),
        "漢".repeat(16),
        "é".repeat(24),
        "😀".repeat(12),
    ] {
        c.run(&format!("SELECT mq.create_queue('{fits}')")).await;
        whole_life(&c, &fits).await;
        assert_eq!(c.text("SELECT queue FROM mq.queues").await, fits);
        let archived = format!(
            "SELECT mq.send('{fits}', '1'); SELECT mq.archive('{fits}', id) FROM mq.read('{fits}')"
        );
        c.run(&archived).await;
        let archive = format!("SELECT count(*) > 0 FROM mq.\"{fits}_archive\"");
        assert!(c.yes(&archive).await);
        c.run(&format!("SELECT mq.drop_queue('{fits}')")).await;
    }
    let long = [
        "x".repeat(49),
        format!("{}x", "漢".repeat(16)),
        "😀".repeat(13),
        "x".repeat(70),
    ];
    let reserved = [
        "queues",
        "metrics",
        "status",
        "message",
        "exchanges",
        "bindings",
        "schedules",
        "streams",
        "subscriptions",
        "consumers",
        "captures",
        "handlers",
        "traces",
        "settings",
        "topics",
        "events",
        "mq_x",
        "pg_x",
        "",
    ];
    for bad in long.iter().map(String::as_str).chain(reserved) {
        c.refused(&format!("SELECT mq.create_queue('{bad}')"), "42602")
            .await;
    }
    c.run("SELECT mq.create_queue('ok')").await;
    for bad in [long[0].as_str(), "pg_x", "queues"] {
        c.refused(&format!("SELECT mq.rename_queue('ok', '{bad}')"), "42602")
            .await;
    }
    c.refused("SELECT mq.create_queue(NULL)", "22023").await;
    for taken in ["ok_archive", "ok"] {
        c.refused(&format!("SELECT mq.create_queue('{taken}')"), "42P07")
            .await;
    }
}

async fn hostile_content(cx: Cx) {
    let c = cx.connect().await;
    c.run("SELECT mq.create_queue('q', max_failures => 1)")
        .await;
    for text in [
        "'); DROP TABLE x; --",
        "\\u0000",
        "\\",
        "\"",
        "%s",
        "$1",
        "\u{1F4EC}",
        "",
    ] {
        let headers = serde_json::json!({ text: [text, {"x-death": text}], "a'b\"c": null });
        let send = "SELECT mq.send_text('q', $1, $2, dedup_key => $1)";
        let id: i64 = c.query_one(send, &[&text, &headers]).await.unwrap().get(0);
        let read = "SELECT body, headers, dedup_key FROM mq.read('q') WHERE id = $1";
        let back = c.query_one(read, &[&id]).await.unwrap();
        assert_eq!(back.get::<_, serde_json::Value>(0), serde_json::json!(text));
        assert_eq!(back.get::<_, &str>(2), text);
        let nack = c
            .query_one("SELECT mq.nack('q', $1, NULL, NULL, $2)", &[&id, &text])
            .await
            .unwrap();
        assert!(nack.get::<_, bool>(0));
        let error = "SELECT headers->'x-death'->0->>'error', headers ? $1 FROM mq.q_dead ORDER BY id DESC LIMIT 1";
        let dead = c.query_one(error, &[&text]).await.unwrap();
        assert_eq!(dead.get::<_, Option<&str>>(0).unwrap_or(""), text);
        assert!(dead.get::<_, bool>(1), "the sender's headers stay");
    }
    assert!(c.int("SELECT mq.redrive('q_dead')").await > 0);
    // What a sender writes under x-death neither stops dead-lettering nor steers redriving.
    for own in ["5", "[1]", "{}", "null", "[{\"queue\": 7}]"] {
        let headers = format!("{{\"x-death\": {own}}}");
        c.run(&format!("SELECT mq.send('q', '1', '{headers}')"))
            .await;
        c.run("SELECT mq.nack('q', id) FROM mq.read('q', 100)")
            .await;
        assert_eq!(c.int("SELECT count(*) FROM mq.q").await, 0, "{headers}");
    }
    c.run("SELECT mq.create_queue('elsewhere')").await;
    c.run("SELECT mq.send('q_dead', '1', '{\"x-death\": [{\"queue\": \"elsewhere\"}]}')")
        .await;
    let _ = c.cells("SELECT mq.redrive('q_dead')").await;
    assert_eq!(
        c.int("SELECT count(*) FROM mq.elsewhere").await,
        0,
        "a forged origin"
    );
    for bad in ["'[]'", "'1'", "'\"x\"'", "'null'"] {
        c.refused(&format!("SELECT mq.send('q', '1', {bad})"), "22023")
            .await;
    }
}
