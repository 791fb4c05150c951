import pytest

from sciembed_train.errors import UserError
from sciembed_train.safety.onnx_file import check_onnx_file

onnx = pytest.importorskip("onnx")


def weight(location=None):
    """Two numbers, in the graph itself or in a file that it names."""
    tensor = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [2], [1.0, 2.0])
    if location is not None:
        tensor.ClearField("float_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
    return tensor


def constant(tensor):
    return onnx.helper.make_node("Constant", [], ["c"], value=tensor)


def write(path, nodes=(), initializers=(), functions=(), domains=("",)):
    nodes = [onnx.helper.make_node("Identity", ["x"], ["y"]), *nodes]
    x, y = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in ("x", "y")
    )
    graph = onnx.helper.make_graph(nodes, "g", [x], [y], list(initializers))
    opsets = [onnx.helper.make_opsetid(name, 17) for name in domains]
    path.parent.mkdir(exist_ok=True)
    model = onnx.helper.make_model(graph, opset_imports=opsets, functions=list(functions))
    path.write_bytes(model.SerializeToString())
    return path


OUTSIDE = ["/etc/passwd", "../secret", "a/../../secret", "C:\\secret", "..\\secret"]


@pytest.mark.parametrize("location", OUTSIDE)
@pytest.mark.parametrize("place", ["initializer", "constant", "inner graph", "function"])
def test_numbers_of_other_folders_are_refused_wherever_they_are_named(tmp_path, location, place):
    tensor = weight(location)
    nodes, initializers, functions = [], [], []
    if place == "initializer":
        initializers = [tensor]
    elif place == "constant":
        nodes = [constant(tensor)]
    elif place == "inner graph":
        inner = onnx.helper.make_graph([], "inner", [], [], [tensor])
        nodes = [onnx.helper.make_node("If", ["x"], ["z"], then_branch=inner, else_branch=inner)]
    else:
        opsets = [onnx.helper.make_opsetid("", 17)]
        made = onnx.helper.make_function("own", "f", [], ["c"], [constant(tensor)], opsets)
        functions = [made]
    path = write(tmp_path / "m" / "model.onnx", nodes, initializers, functions)
    with pytest.raises(UserError, match="lies outside of its folder"):
        check_onnx_file(path)


def test_a_link_out_of_the_folder_is_refused_and_one_to_a_hubs_blob_is_not(tmp_path):
    (tmp_path / "secret").write_text("1")
    path = write(tmp_path / "m" / "model.onnx", initializers=[weight("model.onnx.data")])
    check_onnx_file(path)
    (tmp_path / "m" / "model.onnx.data").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match="lies outside"):
        check_onnx_file(path)
    onnx_folder = tmp_path / "models--a" / "snapshots" / "0f" / "onnx"
    onnx_folder.mkdir(parents=True)
    blob = tmp_path / "models--a" / "blobs" / "1e"
    blob.parent.mkdir()
    blob.write_text("1")
    (onnx_folder / "model.onnx.data").symlink_to(blob)
    check_onnx_file(write(onnx_folder / "model.onnx", initializers=[weight("model.onnx.data")]))


def test_operators_of_other_domains_are_refused_unless_the_file_defines_them(tmp_path):
    node = onnx.helper.make_node("f", [], ["c"], domain="own")
    path = tmp_path / "m" / "model.onnx"
    with pytest.raises(UserError, match="the operator 'f' of the domain 'own'"):
        check_onnx_file(write(path, [node], domains=("", "own")))
    opsets = [onnx.helper.make_opsetid("", 17)]
    made = onnx.helper.make_function("own", "f", [], ["c"], [constant(weight())], opsets)
    check_onnx_file(write(path, [node], functions=[made], domains=("", "own")))
    # An inner operator of a function counts, too.
    inner = onnx.helper.make_node("g", [], ["c"], domain="other")
    made = onnx.helper.make_function("own", "f", [], ["c"], [inner], opsets)
    with pytest.raises(UserError, match="of the domain 'other'"):
        check_onnx_file(write(path, [node], functions=[made], domains=("", "own")))


def test_what_is_no_onnx_file_is_refused(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"\x00nothing of the kind")
    for path in (tmp_path / "a.onnx", tmp_path / "none.onnx"):
        with pytest.raises(UserError, match="is no ONNX file"):
            check_onnx_file(path)


def test_without_the_library_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(UserError, match=r"pip install 'sciembed_train\[onnx\]'"):
        check_onnx_file(tmp_path / "a.onnx")
