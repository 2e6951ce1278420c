//! Reports as one HTML page: no scripts, nothing from a network, pictures inside.

use serde_json::Value;

use super::svg::escape;

const STYLE: &str = "body{font:14px/1.5 Helvetica,Arial,sans-serif;color:#222;max-width:1400px;margin:2em auto;\
    padding:0 1em}h1{font-size:20px;overflow-wrap:anywhere}h2{font-size:16px;margin-top:2em}\
    h3{font-size:14px;margin-bottom:0.3em}table{border-collapse:collapse}th{white-space:nowrap}\
    td,th{padding:3px 10px;border-bottom:1px solid #ddd;text-align:right;vertical-align:top}\
    td:first-child,th:first-child,.words td,.words th{text-align:left}.f{color:#a23b4a;font-weight:bold}\
    .p{color:#2f7d4a}.ok{background:#eaf5ec}.warn{background:#fdf3dc}.fail{background:#fbe3e0}\
    .row{display:flex;flex-wrap:wrap;gap:12px}svg{max-width:100%;height:auto}dl{display:grid;\
    grid-template-columns:max-content auto;gap:2px 16px}dd{margin:0;overflow-wrap:anywhere}";

/// A page of its own under a title, which is its first heading.
pub fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <style>{STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n{body}</body></html>\n"
    )
}

/// The fields of an object as a list; what is not known is left out.
pub fn fields(object: &Value) -> String {
    let mut text = String::from("<dl>");
    for (name, value) in object.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text += &format!("<dt>{}</dt><dd>{}</dd>", escape(name), escape(&value));
    }
    text + "</dl>\n"
}
