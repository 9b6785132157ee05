//! Tokenizers that do not go with their text tower, and labels that it cannot tell apart.

use super::support::{constancy, copy_tiny_model, edit_onnx, stderr};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Output;
use tempfile::TempDir;

/// Makes a class bank of `labels` with a copy of the tiny model, after `change`.
fn classes(labels: &str, change: impl FnOnce(&Path)) -> (TempDir, Output) {
    let folder = tempfile::tempdir().expect("folder");
    let manifest = copy_tiny_model(folder.path());
    change(folder.path());
    let output = constancy()
        .args(["classes", "--model"])
        .arg(&manifest)
        .args(["--labels", labels, "--output"])
        .arg(folder.path().join("bank"))
        .output()
        .expect("it runs");
    (folder, output)
}

/// Changes the tokenizer.
fn edit_tokenizer(folder: &Path, edit: impl FnOnce(&mut Value)) {
    let path = folder.join("tokenizer.json");
    let text = std::fs::read_to_string(&path).expect("tokenizer");
    let mut tokenizer = serde_json::from_str(&text).expect("JSON");
    edit(&mut tokenizer);
    std::fs::write(&path, tokenizer.to_string()).expect("tokenizer");
}

/// A post-processor that puts these around every prompt.
fn template(tokens: &[(&str, u32)], parts: &[&str]) -> Value {
    let part = |&name: &&str| match name {
        "A" => json!({"Sequence": {"id": "A", "type_id": 0}}),
        name => json!({"SpecialToken": {"id": name, "type_id": 0}}),
    };
    let special = |&(name, id): &(&str, u32)| {
        (
            name.to_owned(),
            json!({"id": name, "ids": [id], "tokens": [name]}),
        )
    };
    json!({
        "type": "TemplateProcessing",
        "single": parts.iter().map(part).collect::<Vec<_>>(),
        "pair": [],
        "special_tokens": Value::Object(tokens.iter().map(special).collect()),
    })
}

const START: (&str, u32) = ("<|startoftext|>", 598);
const END: (&str, u32) = ("<|endoftext|>", 599);

#[test]
fn a_tokenizer_that_adds_no_start_or_end_is_warned_of() {
    let warned = |post_processor: Value, words: &str| {
        let (_folder, output) = classes("gear,bolt", |folder| {
            edit_tokenizer(folder, |t| t["post_processor"] = post_processor);
        });
        let text = stderr(&output);
        assert!(
            text.contains("WARN") && text.contains(words) && text.contains("tokenizer.json"),
            "{text}"
        );
        output
    };
    // Without its end token the tower reads the same place for all labels: they become one.
    let output = warned(Value::Null, "prompts gain no start and end tokens");
    assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("the labels `gear` and `bolt` get the same embedding"),
        "{}",
        stderr(&output)
    );
    warned(
        template(&[START], &[START.0, "A"]),
        "prompts gain no end token",
    );
    warned(
        template(&[END], &["A", END.0]),
        "prompts gain no start token",
    );
    warned(
        template(&[START], &[START.0, "A", START.0]),
        "do not contain the token 599, which the tower looks for",
    );
    let (_folder, output) = classes("gear,bolt", |_| {});
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{}",
        stderr(&output)
    );
}

#[test]
fn labels_that_become_the_same_tokens_are_refused() {
    let (_folder, output) = classes("a gear, a bolt, A Gear", |_| {});
    assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
    let text = stderr(&output);
    assert!(text.contains("`a gear` and `A Gear`"), "{text}");
    let (_folder, output) = classes("a gear, a gears, gear, gears", |_| {});
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn a_tokenizer_with_more_tokens_than_the_tower_is_refused() {
    let (_folder, output) = classes("gear,bolt", |folder| {
        edit_onnx(&folder.join("text-fp32.onnx"), |model| {
            let graph = model.graph.as_mut().expect("a graph");
            let mut tensors = graph.initializer.iter_mut();
            let table = tensors.find(|t| t.name.ends_with("token_embedding.weight"));
            let table = table.expect("the table of token embeddings");
            table.raw_data.truncate(table.raw_data.len() / 600 * 300);
            table.dims[0] = 300;
        });
    });
    assert_eq!(output.status.code(), Some(65), "{}", stderr(&output));
    let text = stderr(&output);
    for words in [
        "tokenizer.json",
        "the token 599",
        "text-fp32.onnx",
        "0 to 299",
    ] {
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn an_added_token_that_no_prompt_has_is_no_obstacle() {
    let (_folder, output) = classes("gear,bolt", |folder| {
        edit_tokenizer(folder, |t| {
            let added = t["added_tokens"].as_array_mut().expect("added tokens");
            let mut token = added[0].clone();
            token["id"] = json!(600);
            token["content"] = json!("<|spare|>");
            added.push(token);
        });
    });
    assert!(output.status.success(), "{}", stderr(&output));
}
