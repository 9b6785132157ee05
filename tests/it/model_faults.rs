//! Files that are no models, and towers that cannot be computed: each is named, with the way out.

use super::support::{
    constancy, copy_tiny_model, edit_onnx, node, replace_in, stderr, write_images,
};
use constancy_engine::{Encoder, EngineOptions, Manifest};
use std::path::PathBuf;
use std::process::Output;
use tempfile::TempDir;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension;
use tract_onnx::pb::type_proto::Value;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, SparseTensorProto, TensorProto};

/// Pixels of an image, and values of an embedding.
const PIXELS: usize = 3 * 32 * 32;
const WIDTH: usize = 48;

/// A copy of the tiny model, and an image.
struct Model {
    folder: TempDir,
    manifest: PathBuf,
}

impl Model {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let manifest = copy_tiny_model(folder.path());
        write_images(&folder.path().join("images"), 1);
        Self { folder, manifest }
    }

    /// The image tower becomes `nodes`, which make `image_embeds` of `pixels` `[N, 3072]`.
    fn with_tower(nodes: Vec<NodeProto>, tensors: Vec<TensorProto>) -> Self {
        let model = Self::new();
        model.edit_tower(|graph| {
            graph.node = nodes;
            graph
                .node
                .insert(0, node("Flatten", &["pixel_values"], "pixels", &[]));
            graph.initializer = tensors;
        });
        model
    }

    fn edit_tower(&self, edit: impl FnOnce(&mut GraphProto)) {
        edit_onnx(&self.path("vision-fp32.onnx"), |model| {
            edit(model.graph.as_mut().expect("a graph"));
        });
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command on the model; `args` begin with it.
    fn run(&self, args: &[&str]) -> Output {
        constancy()
            .current_dir(self.folder.path())
            .args([args[0], "--model"])
            .arg(&self.manifest)
            .args(&args[1..])
            .output()
            .expect("it runs")
    }

    /// What `embed` says when it refuses the tower.
    fn refusal(&self) -> String {
        refusal(&self.run(&["embed", "images"]))
    }
}

fn refusal(output: &Output) -> String {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(65), "{said}");
    said
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Int.into(),
        i,
        ..AttributeProto::default()
    }
}

fn tensor(name: &str, kind: DataType, dims: &[i64], raw_data: Vec<u8>) -> TensorProto {
    TensorProto {
        name: name.into(),
        data_type: kind.into(),
        dims: dims.to_vec(),
        raw_data,
        ..TensorProto::default()
    }
}

fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    tensor(name, DataType::Float, dims, bytes)
}

/// Weights `[3072, 48]` of a tower, of four bytes each.
fn weights() -> TensorProto {
    let values: Vec<f32> = (0..PIXELS * WIDTH)
        .map(|i| (i % 13) as f32 / 13.0 - 0.4)
        .collect();
    floats("weights", &[3072, 48], &values)
}

#[test]
fn a_file_that_is_no_model_is_named_with_the_way_to_the_right_one() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00ff\nsize 605157884\n";
    let contents: [(&[u8], &str); 5] = [
        (pointer, "run `git lfs pull` in its repository"),
        (
            b"<!DOCTYPE html>\n<html><title>Log in</title>",
            "it is HTML, such as a login page",
        ),
        (b"\x1f\x8b\x08\0\0\0", "unpack it (`gunzip`)"),
        (b"PK\x03\x04\x14\0archive/data.pkl", "a model of PyTorch"),
        (b"", "it is empty: copy or download it again"),
    ];
    for (content, expected) in contents {
        let model = Model::new();
        std::fs::write(model.path("odd"), content).expect("file");
        for option in ["--projection", "--classes"] {
            let args = ["classify", "--classes", "none", option, "odd", "images"];
            let args: Vec<&str> = if option == "--classes" {
                vec!["classify", option, "odd", "images"]
            } else {
                let mut args = args.to_vec();
                args.splice(1..3, ["--labels", "gear,bolt"]);
                args
            };
            let said = refusal(&model.run(&args));
            assert!(said.contains("odd: ") && said.contains(expected), "{said}");
        }
        std::fs::write(model.path("tokenizer.json"), content).expect("file");
        let args = ["classes", "--labels", "gear,bolt", "--output", "bank"];
        let said = refusal(&model.run(&args));
        assert!(
            said.contains("tokenizer.json: ") && said.contains(expected),
            "{said}"
        );
        std::fs::write(model.path("vision-fp32.onnx"), content).expect("file");
        let said = model.refusal();
        assert!(
            said.contains("vision-fp32.onnx: ") && said.contains(expected),
            "{said}"
        );
        // Its hash says nothing more.
        replace_in(
            &model.manifest,
            "file = \"vision-fp32.onnx\"",
            "file = \"vision-fp32.onnx\"\nsha256 = \"00ff\"",
        );
        assert!(model.refusal().contains(expected));
    }
}

#[test]
fn files_of_a_model_in_each_others_place_are_named() {
    let model = Model::new();
    let copy = |from: &str, to: &str| {
        std::fs::copy(model.path(from), model.path(to)).expect("a copy");
    };
    let bank = ["classes", "--labels", "gear,bolt", "--output", "bank"];
    assert!(model.run(&bank).status.success());
    copy("vision-fp32.onnx", "tower");
    let said = refusal(&model.run(&["classify", "--classes", "tower", "images"]));
    assert!(
        said.contains("it is an ONNX model: `constancy fit` makes projections"),
        "{said}"
    );
    copy("tokenizer.json", "json");
    copy("bank", "tokenizer.json");
    let said = refusal(&model.run(&bank));
    assert!(said.contains("name the model's `tokenizer.json`"), "{said}");
    let weights = b"\x1c\0\0\0\0\0\0\0{\"__metadata__\":{\"a\":\"b\"}}  ";
    std::fs::write(model.path("weights"), weights).expect("file");
    let said = refusal(&model.run(&["classify", "--classes", "weights", "images"]));
    assert!(
        said.contains("`constancy classes` makes class banks"),
        "{said}"
    );
    copy("json", "vision-fp32.onnx");
    let said = model.refusal();
    assert!(
        said.contains("it is JSON: name the model's .onnx file"),
        "{said}"
    );
    copy("bank", "vision-fp32.onnx");
    let said = model.refusal();
    assert!(said.contains("export the model to ONNX"), "{said}");
}

#[test]
fn tensors_in_a_form_that_cannot_be_read_are_named() {
    let product = || vec![node("MatMul", &["pixels", "weights"], "image_embeds", &[])];
    let half = |kind| tensor("weights", kind, &[3072, 48], vec![0; 2 * PIXELS * WIDTH]);
    let model = Model::with_tower(product(), vec![half(DataType::Bfloat16)]);
    let said = model.refusal();
    assert!(
        said.contains(
            "tensor `weights` is bfloat16, which is not supported; export the tower in fp32 or fp16"
        ),
        "{said}"
    );
    let to = [int("to", DataType::Bfloat16 as i64)];
    let back = [int("to", DataType::Float as i64)];
    let mut nodes = product();
    nodes[0].input[0] = "floats".into();
    nodes.insert(0, node("Cast", &["rounded"], "floats", &back));
    nodes.insert(0, node("Cast", &["pixels"], "rounded", &to));
    let said = Model::with_tower(nodes, vec![weights()]).refusal();
    assert!(said.contains("tensor `rounded` is bfloat16"), "{said}");
    let model = Model::with_tower(product(), Vec::new());
    model.edit_tower(|graph| {
        graph.sparse_initializer = vec![SparseTensorProto {
            values: Some(floats("weights", &[2], &[1.0, 2.0])),
            indices: Some(tensor("", DataType::Int64, &[2], vec![0; 16])),
            dims: vec![3072, 48],
        }];
    });
    let said = model.refusal();
    assert!(
        said.contains("tensor `weights` is sparse, which is not supported; export the tower with dense weights"),
        "{said}"
    );
}

/// Where the size does not depend on the picture, the operators are computed.
#[test]
fn operators_whose_size_depends_on_the_picture_are_named() {
    let product = |of: &str| node("MatMul", &[of, "weights"], "image_embeds", &[]);
    let said = Model::with_tower(
        vec![
            node("NonZero", &["pixels"], "hits", &[]),
            node("Transpose", &["hits"], "places", &[]),
            node("GatherND", &["pixels", "places"], "values", &[]),
            node("ReduceSum", &["values"], "sum", &[]),
            node("Add", &["pixels", "sum"], "moved", &[]),
            product("moved"),
        ],
        vec![weights()],
    )
    .refusal();
    assert!(
        said.contains("operator `NonZero` (`hits`) makes a tensor whose size depends on the content of the input"),
        "{said}"
    );
    let ones = tensor("ones", DataType::Float, &[1], 1f32.to_le_bytes().into());
    let known = Model::with_tower(
        vec![
            node("NonZero", &["ones"], "hits", &[]),
            node("Cast", &["hits"], "places", &[int("to", 1)]),
            node("Add", &["pixels", "places"], "moved", &[]),
            product("moved"),
        ],
        vec![weights(), ones],
    );
    let output = known.run(&["embed", "images"]);
    assert!(output.status.success(), "{}", stderr(&output));
}

/// As ONNX Runtime's quantiser writes `Gemm` with a scale for each channel.
#[test]
fn a_quantised_gemm_with_a_scale_for_each_channel_is_computed() {
    let (scale, zero) = (0.02f32, 128u8);
    let scales: Vec<f32> = (0..WIDTH).map(|j| 0.001 * (1 + j) as f32).collect();
    let rows: Vec<i8> = (0..PIXELS * WIDTH)
        .map(|i| i8::try_from(i * 7 % 255).unwrap_or(-(i as i8 & 63)))
        .collect();
    let bytes = |values: &[i8]| values.iter().map(|v| v.to_le_bytes()[0]).collect();
    let steps: Vec<i32> = (0..48).map(|j| 1000 * (j - 20)).collect();
    let model = Model::with_tower(
        vec![
            node("QuantizeLinear", &["pixels", "scale", "zero"], "steps", &[]),
            node(
                "QGemm",
                &["steps", "scale", "zero", "rows", "scales", "zeros", "bias"],
                "image_embeds",
                &[int("transB", 1)],
            ),
        ],
        vec![
            floats("scale", &[], &[scale]),
            tensor("zero", DataType::Uint8, &[], vec![zero]),
            tensor("rows", DataType::Int8, &[48, 3072], bytes(&rows)),
            floats("scales", &[48], &scales),
            tensor("zeros", DataType::Int8, &[48], vec![0; WIDTH]),
            tensor(
                "bias",
                DataType::Int32,
                &[48],
                steps.iter().flat_map(|b| b.to_le_bytes()).collect(),
            ),
        ],
    );
    let encoder = Encoder::load(&model.manifest, &EngineOptions::default()).expect("a good tower");
    let image = Manifest::read(&model.manifest)
        .expect("manifest")
        .noise(1, 5);
    let found = encoder.embed(&image).expect("embedding");
    let quantised = |x: &f32| (x / scale).round_ties_even() + f32::from(zero);
    let x: Vec<f64> = image
        .iter()
        .map(|x| f64::from(quantised(x).clamp(0.0, 255.0) - f32::from(zero)))
        .collect();
    let expected: Vec<f64> = (0..WIDTH)
        .map(|j| {
            let row = &rows[j * PIXELS..][..PIXELS];
            let sum: f64 = row.iter().zip(&x).map(|(w, x)| f64::from(*w) * x).sum();
            (sum + f64::from(steps[j])) * f64::from(scale) * f64::from(scales[j])
        })
        .collect();
    let largest = expected.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    for (found, expected) in found.iter().zip(&expected) {
        assert!(
            (f64::from(*found) - expected).abs() < 1e-3 * largest,
            "{found} {expected}"
        );
    }
}

#[test]
fn a_tower_of_bytes_that_leaves_its_layout_open_is_asked_for_it() {
    let nodes = vec![
        node("Cast", &["pixels"], "floats", &[int("to", 1)]),
        node("MatMul", &["floats", "weights"], "image_embeds", &[]),
    ];
    let model = Model::with_tower(nodes, vec![weights()]);
    model.edit_tower(|graph| {
        let input = graph.input[0]
            .r#type
            .as_mut()
            .and_then(|t| t.value.as_mut());
        let Some(Value::TensorType(tensor)) = input else {
            panic!("a tensor")
        };
        tensor.elem_type = DataType::Uint8.into();
        let shape = tensor.shape.as_mut().expect("a shape");
        for axis in &mut shape.dim {
            axis.value = Some(dimension::Value::DimParam("n".into()));
        }
    });
    replace_in(&model.manifest, "size = 32", "type = \"uint8\"\nsize = 32");
    let said = model.refusal();
    assert!(
        said.contains("leaves open whether images come as [N, 3, H, W] or as [N, H, W, 3]; set `layout = \"nchw\"` or `layout = \"nhwc\"` under [input]"),
        "{said}"
    );
    replace_in(&model.manifest, "size = 32", "layout = \"nhwc\"\nsize = 32");
    let output = model.run(&["embed", "images"]);
    assert!(output.status.success(), "{}", stderr(&output));
}

/// Makes a class bank with this `context_length`, after `change` of the text tower.
fn classes(context_length: usize, change: impl FnOnce(&mut GraphProto)) -> Output {
    let model = Model::new();
    edit_onnx(&model.path("text-fp32.onnx"), |model| {
        change(model.graph.as_mut().expect("a graph"));
    });
    let key = |n: usize| format!("context_length = {n}");
    replace_in(&model.manifest, &key(16), &key(context_length));
    model.run(&["classes", "--labels", "gear,bolt", "--output", "bank"])
}

#[test]
fn a_context_shorter_than_the_text_towers_own_is_told_with_both_numbers() {
    let said = refusal(&classes(8, |_| ()));
    assert!(
        said.contains("[1, 8]") && said.contains("the file says [N, 16]"),
        "{said}"
    );
    assert!(said.contains("Correct `text.context_length`"), "{said}");
    let opened = |graph: &mut GraphProto| {
        for input in &mut graph.input {
            let value = input.r#type.as_mut().and_then(|t| t.value.as_mut());
            let Some(Value::TensorType(tensor)) = value else {
                panic!("a tensor")
            };
            let shape = tensor.shape.as_mut().expect("a shape");
            shape.dim[1].value = Some(dimension::Value::DimParam("length".into()));
        }
    };
    let output = classes(8, opened);
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("`text.context_length` is 8, but the text tower ")
            && said.contains(
                "takes 16 tokens: prompts of more than 8 lose their last words. Set it to 16"
            ),
        "{said}"
    );
    let said = stderr(&classes(16, opened));
    assert!(!said.contains("context_length"), "{said}");
}
