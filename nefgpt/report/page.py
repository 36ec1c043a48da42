"""The report: one HTML page that holds everything it shows and loads nothing."""

import base64
import html
import importlib.metadata
import json
import platform
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import trimesh

from nefgpt.base.errors import InputError
from nefgpt.base.files import write_text
from nefgpt.evaluation import tables
from nefgpt.evaluation.tables import HEADINGS
from nefgpt.report import render
from nefgpt.report.figures import load_input

MAX_FACES = 6000
PACKAGES = (
    "nefgpt torch numpy scipy pandas pyarrow safetensors scikit-learn trimesh PyMCubes libigl "
    "manifold3d matplotlib snakemake"
).split()
_IMAGE_TYPES = {".png": "image/png", ".svg": "image/svg+xml", ".jpg": "image/jpeg"}
_WHAT = (
    "NeF-GPT writes new neural fields: it fits one small network per training signal, turns the "
    "weights into tokens, trains a transformer on them, and decodes sampled tokens back into "
    "fields and shapes. This page holds the results of one configuration."
)


def _read_text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}; delete it and run again") from error


def _read_table(path: str | Path, separator: str = ",") -> pd.DataFrame:
    """All cells as text, so that the page shows what the file says."""
    try:
        return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}; delete it and run again") from error


def _cell(value: object) -> tuple[str, bool]:
    """Text of a cell, long decimals shortened, and whether it is a number."""
    text = "" if value is None else str(value)
    try:
        number = float(text)
    except ValueError:
        return html.escape(text), bool(re.fullmatch(r"[\d.+-]+\s*±.*", text))
    if not np.isfinite(number):
        return "–", True
    return html.escape(f"{number:.4g}" if re.search(r"\.\d{4}|e", text) else text), True


def _table(frame: pd.DataFrame) -> str:
    if frame.empty:
        return "<p class=muted>empty</p>"
    rows = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
    numeric = [any(row[i][1] for row in rows) for i in range(len(frame.columns))]
    kinds = ["" if not n else " class=n" for n in numeric]
    head = "".join(
        f"<th{kind}>{html.escape(str(column))}</th>"
        for kind, column in zip(kinds, frame.columns, strict=True)
    )
    lines = (
        "".join(f"<td{kind}>{cell[0]}</td>" for kind, cell in zip(kinds, row, strict=True))
        for row in rows
    )
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return (
        f"<div class=scroll><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _section(title: str, body: str) -> str:
    anchor = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    return f'<section id="{anchor}"><h2>{html.escape(title)}</h2>{body}</section>'


def _table2(path: str | Path, metrics: str | Path | None) -> str:
    """Table 2, and from the long table how many samples it compares."""
    frame = _read_table(path)
    if "source" not in frame.columns:
        return _table(frame)
    published = frame["source"].str.lower().str.startswith("publ")
    compared = tables.about(tables.read_metrics(metrics)) if metrics else ""
    caution = (
        "Published values come from other data, budgets and feature extractors; they are not to "
        "be ranked against the measured rows."
    )
    parts = []
    for title, part, note in (
        ("Measured here", frame[~published], compared),
        ("Published", frame[published], caution),
    ):
        if len(part):
            part = part.drop(columns="source").loc[:, lambda rows: (rows != "").any()]
            parts.append(f"<h3>{title}</h3>" + _table(part.rename(columns=HEADINGS)))
            parts.append(f"<p class=muted>{html.escape(note)}</p>")
    return "".join(parts)


def _figure(path: str | Path, caption: str) -> str:
    path = Path(path)
    kind = _IMAGE_TYPES.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"cannot show {path}: use one of {', '.join(_IMAGE_TYPES)}")
    try:
        data = base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}; run the figures' stage again") from error
    text = html.escape(str(caption))
    return (
        f'<figure><img alt="{text}" src="data:{kind};base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _cluster(vertices: np.ndarray, faces: np.ndarray, target: int):
    """Merge vertices on ever coarser grids until at most `target` faces are left."""
    low = vertices.min(axis=0)
    size = max(float((vertices.max(axis=0) - low).max()), 1e-12)
    cells = 256.0
    reduced = vertices, faces
    while len(reduced[1]) > target and cells > 2:
        keys = np.floor((vertices - low) * (cells / size)).astype(np.int64)
        _, group = np.unique(keys, axis=0, return_inverse=True)
        group = group.reshape(-1)
        count = np.bincount(group)
        points = np.stack([np.bincount(group, vertices[:, k]) / count for k in range(3)], axis=1)
        mapped = group[faces]
        a, b, c = mapped.T
        mapped = mapped[(a != b) & (b != c) & (a != c)]
        _, first = np.unique(np.sort(mapped, axis=1), axis=0, return_index=True)
        reduced = points, mapped[np.sort(first)]
        cells *= 0.85
    return reduced


def decimate(vertices: np.ndarray, faces: np.ndarray, target: int = MAX_FACES):
    """A mesh of about `target` faces or fewer that looks like the given one."""
    if len(faces) <= target:
        return vertices, faces
    try:
        mesh = trimesh.Trimesh(vertices, faces, process=False)
        mesh.merge_vertices()
        simple = mesh.simplify_quadric_decimation(face_count=target)
        vertices, faces = np.asarray(simple.vertices), np.asarray(simple.faces)
    except (ImportError, ValueError, TypeError):
        pass  # fast_simplification is optional; clustering needs nothing
    return _cluster(vertices, faces, target) if len(faces) > 1.2 * target else (vertices, faces)


def embed_mesh(path: str | Path, label: str, extent: float | None = None) -> dict | None:
    """A mesh as base64 of 16-bit vertices over [-scale, scale] and indices; None if invalid.

    With `extent` the file is an input mesh, to be framed with that longest side.
    """
    vertices, faces, _ = load_input(path, extent)
    if not render.is_valid(vertices, faces):
        return None
    vertices, faces = decimate(vertices, faces)
    used, faces = np.unique(faces, return_inverse=True)
    vertices, faces = vertices[used], faces.reshape(-1, 3)
    scale = max(float(np.abs(vertices).max()), 1e-9)
    levels = np.round((vertices / scale + 1) * 32767.5).astype("<u2")
    wide = len(vertices) > 65535
    return {
        "label": str(label),
        "scale": scale,
        "wide": wide,
        "v": base64.b64encode(levels.tobytes()).decode(),
        "f": base64.b64encode(faces.astype("<u4" if wide else "<u2").tobytes()).decode(),
    }


def _viewer(meshes: Sequence[dict]) -> str:
    found = [embed_mesh(entry["path"], entry["label"], entry.get("extent")) for entry in meshes]
    shown = [entry for entry in found if entry is not None]
    note = ""
    if len(shown) < len(found):
        note = f"<p class=muted>{len(found) - len(shown)} empty or invalid meshes left out.</p>"
    if not shown:
        return note
    options = "".join(
        f"<option value={i}>{html.escape(entry['label'])}</option>" for i, entry in enumerate(shown)
    )
    # '<' would let a label end the script element.
    data = json.dumps(shown).replace("<", "\\u003c")
    return (
        f"<div class=viewer><div class=bar><button id=prev aria-label=previous>‹</button>"
        f"<select id=pick aria-label=shape>{options}</select>"
        f"<button id=next aria-label=next>›</button><button id=reset>reset view</button>"
        f"<span class=muted id=count></span></div><canvas id=view tabindex=0></canvas>"
        f"<p class=muted>Drag to rotate, wheel to zoom, arrow keys work too. Red: faces seen "
        f"from inside.</p></div>{note}"
        f"<script type=application/json id=meshes>{data}</script><script>{_SCRIPT}</script>"
    )


def _versions(wanted: object) -> pd.DataFrame:
    if isinstance(wanted, dict):
        items = {str(name): str(version) for name, version in wanted.items()}
    else:
        items = {"python": platform.python_version(), "platform": platform.platform()}
        for name in wanted or PACKAGES:
            try:
                items[str(name)] = importlib.metadata.version(str(name))
            except importlib.metadata.PackageNotFoundError:
                continue
    return pd.DataFrame({"package": list(items), "version": list(items.values())})


def build(spec: dict, out: str | Path) -> None:
    """Write the page.

    Parameters
    ----------
    spec
        All keys optional: `name`; `config` (YAML path) or `config_text`; `table2`, `metrics`
        (CSV paths); `figures` (pairs of image path and caption); `fit_quality` (name to value);
        `tables` (pairs of title and CSV path or list of rows); `meshes` (objects with `label`,
        `path` and, for input meshes, `extent`); `rejected` (TSV path); `versions` (package names,
        or name to version).
    out
        The HTML file.
    """
    name = str(spec.get("name", "run"))
    sections = []
    if spec.get("meshes"):
        sections.append(("Shapes", _viewer(spec["meshes"])))
    if spec.get("table2"):
        sections.append(("Sample metrics", _table2(spec["table2"], spec.get("metrics"))))
    if spec.get("fit_quality"):
        frame = pd.DataFrame(
            spec["fit_quality"].items(), columns=["quantity", "value"], dtype=object
        )
        sections.append(("Quality of the fits", _table(frame)))
    for title, source in spec.get("tables", []):
        rows = isinstance(source, list)
        frame = pd.DataFrame(source, dtype=object) if rows else _read_table(source)
        sections.append((str(title), _table(frame)))
    if spec.get("figures"):
        sections.append(("Figures", "".join(_figure(*entry) for entry in spec["figures"])))
    if spec.get("rejected"):
        rejected = _read_table(spec["rejected"], "\t")
        text = f"<p>Left out: {len(rejected)} of the inputs.</p>"
        if len(rejected):
            text += f"<details><summary>which, and why</summary>{_table(rejected)}</details>"
        sections.append(("Rejected inputs", text))
    if spec.get("config") or spec.get("config_text"):
        text = spec.get("config_text") or _read_text(spec["config"])
        sections.append(("Configuration", f"<pre>{html.escape(text)}</pre>"))
    sections.append(("Versions", _table(_versions(spec.get("versions")))))
    body = "".join(_section(title, text) for title, text in sections)
    title = html.escape(name)
    page = (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        # The page may not load anything, whatever ends up in it.
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; img-src data:; "
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<title>{title} · NeF-GPT</title><style>{_STYLE}</style></head><body><main>"
        f"<header><h1>{title}</h1><p>{_WHAT}</p></header>{body}</main></body></html>\n"
    )
    write_text(out, page)


_STYLE = """
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#1c2733;--muted:#66727f;--line:#dfe4ea;
--accent:#33658a;--node:#e8f0f6}
@media (prefers-color-scheme:dark){:root{--bg:#12171d;--card:#1b222a;--ink:#e3e9ef;--muted:#93a0ad;
--line:#323c47;--accent:#7fb2d6;--node:#243443}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 18px 60px}
h1{margin:0 0 4px;font-size:28px;overflow-wrap:anywhere}
h2{margin:0 0 12px;font-size:18px}h3{margin:16px 0 6px;font-size:14px;color:var(--muted)}
header p{max-width:70ch;color:var(--muted);margin:0 0 20px}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;
padding:18px 20px;margin:0 0 18px}
.muted{color:var(--muted);font-size:13px;margin:8px 0 0}
.scroll{overflow:auto;max-height:640px}
table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums}
th,td{padding:5px 8px 5px 0;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}
th{position:sticky;top:0;background:var(--card);font-weight:600;color:var(--muted)}
th.n,td.n{text-align:right}tbody tr:hover{background:var(--node)}
th:not(:first-child),td:not(:first-child){padding-left:6px}
pre{margin:0;overflow:auto;max-height:520px;font:13px/1.5 ui-monospace,Menlo,Consolas,monospace}
summary{cursor:pointer;color:var(--accent)}
figure{margin:0 0 22px}figure:last-child{margin:0}
figure img{display:block;width:100%;height:auto;background:#fff;border-radius:8px;padding:6px}
figcaption{color:var(--muted);font-size:13px;margin-top:6px}
.bar{display:flex;gap:8px;align-items:center;flex-wrap:wrap;margin-bottom:10px}
.bar .muted{margin:0}
button,select{font:inherit;color:inherit;background:var(--bg);border:1px solid var(--line);
border-radius:8px;padding:4px 10px;max-width:100%}
canvas{display:block;width:100%;height:min(62vh,520px);touch-action:none;cursor:grab;
border-radius:8px;background:var(--bg)}
"""

# A depth buffer of our own instead of WebGL: the same picture on every browser, and enough for
# the few thousand faces a mesh is reduced to.
_SCRIPT = r"""
"use strict";(()=>{
const data=JSON.parse(document.getElementById("meshes").textContent);
const canvas=document.getElementById("view"),pick=document.getElementById("pick");
const ctx=canvas.getContext("2d"),start={a:40,e:30,z:1},
reach=Math.max(...data.map(d=>d.scale));
let view={...start},mesh=null,queued=false,image=null,depth=null;
const bytes=s=>{const t=atob(s),b=new Uint8Array(t.length);
for(let i=0;i<t.length;i++)b[i]=t.charCodeAt(i);return b.buffer};
function load(d){
const q=new Uint16Array(bytes(d.v)),
f=d.wide?new Uint32Array(bytes(d.f)):new Uint16Array(bytes(d.f));
const v=new Float32Array(q.length),n=new Float32Array(q.length),g=new Float32Array(f.length);
for(let i=0;i<q.length;i++)v[i]=(q[i]/32767.5-1)*d.scale;
for(let t=0;t<f.length;t+=3){const a=3*f[t],b=3*f[t+1],c=3*f[t+2];
const ux=v[b]-v[a],uy=v[b+1]-v[a+1],uz=v[b+2]-v[a+2],wx=v[c]-v[a],wy=v[c+1]-v[a+1],wz=v[c+2]-v[a+2];
const x=uy*wz-uz*wy,y=uz*wx-ux*wz,z=ux*wy-uy*wx,l=Math.hypot(x,y,z)||1;
g[t]=x/l;g[t+1]=y/l;g[t+2]=z/l;
for(const k of [a,b,c]){n[k]+=x;n[k+1]+=y;n[k+2]+=z}}
for(let i=0;i<n.length;i+=3){const l=Math.hypot(n[i],n[i+1],n[i+2])||1;n[i]/=l;n[i+1]/=l;n[i+2]/=l}
return{v,n,g,f}}
const K=[-.437,.728,.534],F=[.868,.109,.488];
function light(x,y,z){return .3+.1*y+.62*Math.max(0,K[0]*x+K[1]*y+K[2]*z)
+.26*Math.max(0,F[0]*x+F[1]*y+F[2]*z)}
function draw(){
queued=false;if(!mesh)return;
const ratio=Math.min(devicePixelRatio||1,2);
const W=Math.max(1,Math.round(canvas.clientWidth*ratio)),H=Math.max(1,
Math.round(canvas.clientHeight*ratio));
if(!image||canvas.width!==W||canvas.height!==H){canvas.width=W;canvas.height=H;
image=ctx.createImageData(W,H);depth=new Float32Array(W*H)}
const px=new Uint32Array(image.data.buffer);px.fill(0);depth.fill(-1e9);
const a=view.a*Math.PI/180,e=view.e*Math.PI/180,ca=Math.cos(a),sa=Math.sin(a),ce=Math.cos(e),
se=Math.sin(e);
const R=[-ca,0,-sa,-sa*se,ce,ca*se,sa*ce,se,-ca*ce];
const{v,n,g,f}=mesh,m=v.length,s=Math.min(W,H)*.5*view.z/reach,P=new Float32Array(m),
N=new Float32Array(m);
for(let i=0;i<m;i+=3)for(let r=0;r<3;r++){
P[i+r]=R[3*r]*v[i]+R[3*r+1]*v[i+1]+R[3*r+2]*v[i+2];
N[i+r]=R[3*r]*n[i]+R[3*r+1]*n[i+1]+R[3*r+2]*n[i+2]}
for(let i=0;i<m;i+=3){P[i]=W/2+s*P[i];P[i+1]=H/2-s*P[i+1]}
const L=[0,0,0];
for(let t=0;t<f.length;t+=3){
const A=3*f[t],B=3*f[t+1],C=3*f[t+2];
const x0=P[A],y0=P[A+1],ux=P[B]-x0,uy=P[B+1]-y0,wx=P[C]-x0,wy=P[C+1]-y0,D=ux*wy-uy*wx;
if(Math.abs(D)<1e-9)continue;
const back=D>0,k=back?-1:1;
let fx=0,fy=0,fz=0;for(let j=0;j<3;j++){const q=g[t+j];fx+=R[j]*q;fy+=R[3+j]*q;fz+=R[6+j]*q}
for(let j=0;j<3;j++){const c=j===0?A:j===1?B:C;
const crease=N[c]*fx+N[c+1]*fy+N[c+2]*fz<.75;
L[j]=crease?light(k*fx,k*fy,k*fz):light(k*N[c],k*N[c+1],k*N[c+2])}
const X0=Math.max(0,Math.ceil(Math.min(x0,P[B],P[C])-.5)),X1=Math.min(W-1,Math.floor(Math.max(x0,
P[B],P[C])-.5));
const Y0=Math.max(0,Math.ceil(Math.min(y0,P[B+1],P[C+1])-.5)),Y1=Math.min(H-1,
Math.floor(Math.max(y0,P[B+1],P[C+1])-.5));
const z0=P[A+2],zu=P[B+2]-z0,zw=P[C+2]-z0,r=back?219:168,G=back?92:186,b=back?77:209;
for(let y=Y0;y<=Y1;y++)for(let x=X0;x<=X1;x++){
const dx=x+.5-x0,dy=y+.5-y0,p=(dx*wy-dy*wx)/D,q=(dy*ux-dx*uy)/D;
if(p<-1e-6||q<-1e-6||p+q>1.000001)continue;
const z=z0+p*zu+q*zw,o=y*W+x;if(z<=depth[o])continue;depth[o]=z;
const l=L[0]+p*(L[1]-L[0])+q*(L[2]-L[0]);
px[o]=255<<24|Math.min(255,b*l)<<16|Math.min(255,G*l)<<8|Math.min(255,r*l)}}
ctx.putImageData(image,0,0)}
const redraw=()=>{if(!queued){queued=true;requestAnimationFrame(draw)}};
function show(i){i=(i+data.length)%data.length;pick.value=i;mesh=load(data[i]);
document.getElementById("count").textContent=(i+1)+" of "+data.length+", "+mesh.f.length/3+" faces";
redraw()}
function turn(x,y){view.a+=x;view.e=Math.max(-89,Math.min(89,view.e+y));redraw()}
function zoom(k){view.z=Math.max(.3,Math.min(12,view.z*k));redraw()}
pick.onchange=()=>show(+pick.value);
document.getElementById("prev").onclick=()=>show(+pick.value-1);
document.getElementById("next").onclick=()=>show(+pick.value+1);
document.getElementById("reset").onclick=()=>{view={...start};redraw()};
canvas.onpointerdown=e=>canvas.setPointerCapture(e.pointerId);
canvas.onpointermove=e=>{if(e.buttons)turn(e.movementX*.5,e.movementY*.5)};
canvas.addEventListener("wheel",e=>{e.preventDefault();
zoom(Math.exp(-e.deltaY*.0015))},{passive:false});
canvas.onkeydown=e=>{const k={ArrowLeft:[-6,0],ArrowRight:[6,0],ArrowUp:[0,-6],ArrowDown:[0,
6]}[e.key];
if(k)turn(...k);else if(e.key==="+"||e.key==="=")zoom(1.15);else if(e.key==="-")zoom(1/1.15);
else return;
e.preventDefault()};
addEventListener("resize",redraw);show(0)})();
"""
