//! Answers have the names and types that the metadata announces, whatever the model answers in.

use super::*;

/// What the metadata says of an output.
fn announced(name: &str, datatype: &str) -> TensorMetadata {
    TensorMetadata { name: name.to_owned(), datatype: datatype.to_owned(), shape: vec![-1] }
}

/// An answer of JSON: all its numbers are 64 bits wide.
fn of_json(name: &str, predictions: &[f64], are_whole: bool) -> PredictResponse {
    #[expect(clippy::cast_possible_truncation, reason = "they are whole")]
    let bytes = |number: &f64| if are_whole { (*number as i64).to_le_bytes() } else { number.to_le_bytes() };
    let tensor = Tensor {
        name: name.to_owned(),
        data_type: if are_whole { DataType::Int64 } else { DataType::Float64 }.into(),
        shape: vec![i64::try_from(predictions.len()).unwrap()],
        data: predictions.iter().flat_map(bytes).collect::<Vec<_>>().into(),
        ..Tensor::default()
    };
    PredictResponse { output: Some(Output::Tensors(Tensors { tensors: vec![tensor] })), ..PredictResponse::default() }
}

#[test]
fn answers_are_of_the_types_that_the_metadata_announces() {
    let half = |numbers: &[u16]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>();
    let cases: [(&str, &[f64], bool, Vec<u8>); 12] = [
        ("FP32", &[1.000_000_119_209_289_6, f64::NAN], false, [1.000_000_1_f32, f32::NAN].iter().flat_map(|n| n.to_le_bytes()).collect()),
        ("FP32", &[3.0], true, 3_f32.to_le_bytes().into()),
        ("FP64", &[3.0], true, 3_f64.to_le_bytes().into()),
        ("FP16", &[1.0, -2.0, 65504.0, f64::INFINITY], false, half(&[0x3c00, 0xc000, 0x7bff, 0x7c00])),
        ("FP16", &[5.960_464_477_539_063e-8, 6.097_555_160_522_461e-5, 6.103_515_625e-5, -0.0], false, half(&[1, 0x3ff, 0x400, 0x8000])),
        ("INT8", &[-128.0, 127.0], true, vec![128, 127]),
        ("INT16", &[-2.0], true, vec![254, 255]),
        ("INT32", &[7.0], true, vec![7, 0, 0, 0]),
        ("UINT8", &[255.0], true, vec![255]),
        ("UINT16", &[258.0], true, vec![2, 1]),
        ("UINT32", &[1.0], true, vec![1, 0, 0, 0]),
        ("INT32", &[7.0], false, vec![7, 0, 0, 0]),
    ];
    for (datatype, predictions, are_whole, raw) in cases {
        let answer = door::write(of_json("y", predictions, are_whole), &door::Wanted::default(), &[announced("y", datatype)]).unwrap();
        assert_eq!((answer.outputs[0].datatype.as_str(), &answer.raw_output_contents[0][..]), (datatype, &raw[..]), "{predictions:?}");
    }
    let kept: [(&str, &[f64], bool, &str); 7] = [
        ("INT8", &[1.0, 128.0], true, "INT64"),
        ("UINT32", &[-1.0], true, "INT64"),
        ("INT32", &[0.5], false, "FP64"),
        ("INT64", &[1.0, f64::NAN], false, "FP64"),
        ("FP32", &[1e39], false, "FP64"),
        ("FP32", &[16_777_217.0], true, "INT64"),
        ("FP16", &[0.1], false, "FP64"),
    ];
    for (datatype, predictions, are_whole, kept) in kept {
        let answer = door::write(of_json("y", predictions, are_whole), &door::Wanted::default(), &[announced("y", datatype)]).unwrap();
        assert_eq!(answer.outputs[0].datatype, kept, "{datatype} does not hold {predictions:?}");
    }
}

/// A model in this process has types of its own.
#[test]
fn whatever_the_model_answers_in_becomes_what_is_announced() {
    fn bytes<const N: usize>(bytes: [u8; N]) -> Vec<u8> {
        bytes.into()
    }
    for (from, data, datatype, raw) in [
        (DataType::Float32, bytes(0.1_f32.to_le_bytes()), "FP64", bytes(f64::from(0.1_f32).to_le_bytes())),
        (DataType::Float32, bytes(f32::NEG_INFINITY.to_le_bytes()), "FP64", bytes(f64::NEG_INFINITY.to_le_bytes())),
        (DataType::Float32, bytes(2_f32.to_le_bytes()), "INT64", bytes(2_i64.to_le_bytes())),
        (DataType::Int32, bytes((-7_i32).to_le_bytes()), "INT64", bytes((-7_i64).to_le_bytes())),
        (DataType::Int8, vec![0xff], "INT32", bytes((-1_i32).to_le_bytes())),
        (DataType::Uint8, vec![0xff], "INT64", bytes(255_i64.to_le_bytes())),
        (DataType::Bool, vec![1], "FP32", bytes(1_f32.to_le_bytes())),
    ] {
        let tensor = Tensor { name: "y".to_owned(), data_type: from.into(), shape: vec![1], data: data.into(), ..Tensor::default() };
        let answer = PredictResponse { output: Some(Output::Tensors(Tensors { tensors: vec![tensor] })), ..PredictResponse::default() };
        let answer = door::write(answer, &door::Wanted::default(), &[announced("y", datatype)]).unwrap();
        assert_eq!((answer.outputs[0].datatype.as_str(), &answer.raw_output_contents[0][..]), (datatype, &raw[..]), "{from:?}");
    }
}

#[test]
fn an_answers_tensors_have_the_names_and_the_lists_of_what_is_announced() {
    let in_lists = door::Wanted { in_lists: true, ..door::Wanted::default() };
    let answer = door::write(of_json("", &[0.5], false), &in_lists, &[announced("score", "FP32")]).unwrap();
    assert_eq!((answer.outputs[0].name.as_str(), answer.outputs[0].datatype.as_str()), ("score", "FP32"));
    assert_eq!(answer.outputs[0].contents.as_ref().unwrap().fp32_contents, [0.5]);
    let answer = door::write(of_json("", &[0.5], false), &in_lists, &[announced("score", "FP16")]).unwrap();
    assert_eq!(answer.outputs[0].contents.as_ref().unwrap().fp64_contents, [0.5], "halves have no list");
    let answer = door::write(of_json("a", &[0.5], false), &in_lists, &[announced("b", "FP32")]).unwrap();
    assert_eq!((answer.outputs[0].name.as_str(), answer.outputs[0].datatype.as_str()), ("a", "FP64"), "of another output nothing is said");
    let body = Bytes::from_static(
        br#"{"inputs":[{"name":"x","datatype":"BOOL","shape":[1],"data":[true]}],"outputs":[{"name":"y"},{"name":"z","parameters":{"binary_data":true}}]}"#,
    );
    let (_, form) = rest::read(("m", ""), &body, None).unwrap();
    let both = |first: PredictResponse, second: PredictResponse| {
        let mut all = Vec::new();
        for answer in [first, second] {
            let Some(Output::Tensors(Tensors { tensors })) = answer.output else { panic!() };
            all.extend(tensors);
        }
        PredictResponse { output: Some(Output::Tensors(Tensors { tensors: all })), ..PredictResponse::default() }
    };
    let told = [announced("y", "FP16"), announced("z", "FP16")];
    let written = rest::write(both(of_json("y", &[0.5], false), of_json("z", &[0.5], false)), &form, &told).unwrap();
    let (head, tail) = written.body.split_at(written.json.unwrap());
    let head: Value = serde_json::from_slice(head).unwrap();
    assert_eq!((&head["outputs"][0]["datatype"], &head["outputs"][1]["datatype"], tail), (&json!("FP64"), &json!("FP16"), &[0, 0x38][..]));
}
