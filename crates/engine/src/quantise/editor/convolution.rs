//! Convolutions whose weights are stored in int8. Only the weights: ONNX Runtime's integer convolutions are slower than those
//! in floats, and ours quantise what they read by themselves.

use super::super::layers::{Layer, Windows};
use super::super::weights::Int8Weights;
use super::{GraphEditor, node};
use crate::onnx::{nth_input, pb};
use pb::attribute_proto::AttributeType;
use pb::tensor_proto::DataType;

impl GraphEditor {
    /// Stores the weights of a convolution in int8, behind a `DequantizeLinear` with a scale per column.
    pub(in super::super) fn quantise_convolution(
        &mut self,
        layer: &Layer,
        windows: Windows,
        int8: &Int8Weights,
    ) {
        let made = |n: &pb::NodeProto| n.output.first() == Some(&layer.output);
        let Some(mut convolution) = self.nodes.iter().find(|n| made(n)).cloned() else {
            return;
        };
        let w = nth_input(&convolution, 1).to_owned();
        let [stored, scale, zero, floats] = ["quantized", "scale", "zero_point", "dequantized"]
            .map(|s| self.unused_name(format!("{w}_{s}")));
        let name = self.unused_name(format!("{}_dequantize", layer.name));
        let pixels = windows.size.0 * windows.size.1;
        // From `[window, channels, columns]` to the file's order.
        let at = |i: usize| {
            let (column, rest) = (i / layer.depth, i % layer.depth);
            let (channel, pixel) = (rest / pixels, rest % pixels);
            int8.values[(pixel * windows.channels + channel) * layer.columns + column]
        };
        let shape = [
            layer.columns,
            windows.channels,
            windows.size.0,
            windows.size.1,
        ];
        let bytes = (0..int8.values.len()).map(|i| at(i).cast_unsigned());
        self.add_initializer(&stored, DataType::Int8, &shape, bytes.collect());
        self.add_floats(&scale, &int8.scales);
        let zeros = vec![0; layer.columns];
        self.add_initializer(&zero, DataType::Int8, &[layer.columns], zeros);
        let axis = pb::AttributeProto {
            name: "axis".to_owned(),
            r#type: AttributeType::Int as i32,
            ..pb::AttributeProto::default()
        };
        let dequantise = pb::NodeProto {
            attribute: vec![axis],
            ..node(
                "DequantizeLinear",
                name,
                &[&stored, &scale, &zero],
                &[&floats],
            )
        };
        convolution.input[1] = floats;
        self.replaced
            .insert(layer.output.clone(), vec![dequantise, convolution]);
    }
}
